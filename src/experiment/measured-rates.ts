/** How long training takes, from rates that `bench --save` or `bench --json` measured on the machine it will run on. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";

/** A case of the bench: what of it a prediction needs. */
export interface MeasuredRate {
  readonly method: Method;
  readonly device: string;
  readonly dtype: "fp32" | "bf16";
  readonly parameters: number;
  readonly tokensPerSecond: number;
  /** Of its shape and sequences. */
  readonly flopsPerToken: number;
}

const report = z.object({
  cases: z
    .array(
      z.object({
        method: z.enum(["lora", "fft"]),
        device: z.string(),
        dtype: z.enum(["fp32", "bf16"]),
        parameters: z.number().positive(),
        tokensPerSecond: z.number().positive(),
        flopsPerToken: z.number().positive(),
      }),
    )
    .min(1),
});

/** @throws PolypacaError `NOT_FOUND`, `IO`; `BAD_CONFIG` where the file is no report of the bench */
export async function readMeasuredRates(file: string): Promise<readonly MeasuredRate[]> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new PolypacaError(PolypacaError.from(cause).code, `--bench ${file}: cannot be read (${(cause as Error).message}).`, { cause });
  });
  try {
    return report.parse(JSON.parse(text)).cases;
  } catch (cause) {
    throw new PolypacaError(
      "BAD_CONFIG",
      `--bench ${file}: not a report of \`polypaca bench --save\`. Make one on the machine that will train.`,
      {
        cause,
      },
    );
  }
}

export interface TrainingWorkload {
  readonly method: Method;
  readonly device: string;
  readonly dtype: "fp32" | "bf16";
  readonly parameters: number;
  readonly flops: number;
}

/**
 * Seconds at the rate of work of the measured model of the nearest size (by ratio), with the same method, kind of device and type.
 *
 * @returns null: none was measured
 */
export function trainingSeconds(
  rates: readonly MeasuredRate[],
  { method, device, dtype, parameters, flops }: TrainingWorkload,
): number | null {
  const alike = rates.filter((rate) => rate.method === method && rate.dtype === dtype && kindOf(rate.device) === kindOf(device));
  const distance = (rate: MeasuredRate): number => Math.abs(Math.log(rate.parameters / parameters));
  const [nearest] = alike.sort((a, b) => distance(a) - distance(b));
  return nearest === undefined ? null : flops / (nearest.tokensPerSecond * nearest.flopsPerToken);
}

function kindOf(device: string): string {
  return device.split(":")[0]!;
}
