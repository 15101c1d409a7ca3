/** How fast a device trains: measured by `bench`, or as the user says. */
import { z } from "zod";
import { readSavedFile } from "../bench/saved-file.js";
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";
import type { ComputeDType } from "../native/addon-types.js";

/** A case that was measured, in terms that carry over to other models. */
export interface MeasuredCase {
  readonly name: string;
  readonly arch: string;
  readonly method: Method;
  readonly dtype: ComputeDType;
  /** Without adapters. */
  readonly parameters: number;
  /** Of forward and backward pass. */
  readonly flopsPerSecond: number;
  /** Of the product's peak in the same run, forward and backward pass alone. */
  readonly utilization: number;
  /** An update takes so long per trained parameter, whatever the step's tokens. */
  readonly optimizerSecondsPerParameter: number;
}

export interface MeasuredRates {
  readonly kind: "measured";
  readonly files: readonly string[];
  readonly cases: readonly MeasuredCase[];
  /** "cpu" or "cuda". */
  readonly device: string;
  /** Whether the CPU has bf16 products; they are what `train` uses then. */
  readonly hasBf16: boolean;
  /** Of the machine, or of its first GPU; null: the file does not say. */
  readonly memoryBytes: number | null;
  /** For the report: "AMD EPYC, 2 threads". */
  readonly machine: string;
}

export type Rates =
  | MeasuredRates
  /** FLOP/s of the method: a peak times a utilisation. */
  | { readonly kind: "flops"; readonly flopsPerSecond: Readonly<Record<Method, number | null>>; readonly description: string }
  | { readonly kind: "tokens"; readonly tokensPerSecond: number };

const benchSchema = z.object({
  machine: z.object({
    cpu: z.string(),
    threads: z.number(),
    bf16Dot: z.boolean(),
    amxBf16: z.boolean(),
    memoryTotal: z.number().positive(),
    cudaDevices: z.array(z.object({ name: z.string(), memoryTotal: z.number() })).default([]),
  }),
  gemmPeak: z.object({ fp32: z.number().positive().nullable(), bf16: z.number().positive().nullable() }),
  cases: z
    .array(
      z.object({
        name: z.string(),
        arch: z.string(),
        method: z.enum(["lora", "fft"]),
        dtype: z.enum(["fp32", "bf16"]),
        device: z.string(),
        parameters: z.number().positive(),
        trainableParameters: z.number().positive(),
        tokensPerStep: z.number().positive(),
        stepSeconds: z.number().positive(),
        optimizerSeconds: z.number().nonnegative(),
        flopsPerToken: z.number().positive(),
      }),
    )
    .min(1),
});

type BenchFile = z.infer<typeof benchSchema>;

/**
 * Reads files of `bench --save`.
 *
 * @throws PolypacaError `NOT_FOUND`, `IO`, `BAD_DATA` naming the file; `USAGE` where they are of different machines
 */
export async function readMeasuredRates(files: readonly string[]): Promise<MeasuredRates> {
  const reports = await Promise.all(files.map((file) => readSavedFile(benchSchema, file, "--bench")));
  const machines = reports.map(machineOf);
  const other = machines.findIndex((machine) => machine !== machines[0]);
  if (other > 0)
    throw new PolypacaError(
      "USAGE",
      `--bench: ${files[0]} is of ${machines[0]}, ${files[other]} of ${machines[other]}. Plan for one at a time.`,
    );
  const { machine, cases } = reports[0]!;
  const device = deviceOf(cases[0]!.device);
  return {
    ...{ kind: "measured", files, device, machine: machines[0]! },
    cases: reports.flatMap((report) => report.cases.map((measured) => measuredCase(measured, report.gemmPeak[measured.dtype]))),
    hasBf16: device === "cuda" || machine.bf16Dot || machine.amxBf16,
    memoryBytes: device === "cpu" ? machine.memoryTotal : (machine.cudaDevices[0]?.memoryTotal ?? null),
  };
}

function deviceOf(name: string): string {
  return name.split(":")[0]!;
}

function machineOf({ machine, cases }: BenchFile): string {
  if (deviceOf(cases[0]!.device) === "cpu") return `${machine.cpu}, ${machine.threads} threads`;
  return machine.cudaDevices[0]?.name ?? cases[0]!.device;
}

function measuredCase(measured: BenchFile["cases"][number], gemmPeak: number | null): MeasuredCase {
  const { name, arch, method, dtype, parameters, trainableParameters } = measured;
  const { stepSeconds, optimizerSeconds, flopsPerToken, tokensPerStep } = measured;
  const flopsPerSecond = (flopsPerToken * tokensPerStep) / (stepSeconds - optimizerSeconds);
  return {
    ...{ name, arch, method, dtype, flopsPerSecond },
    parameters: method === "lora" ? parameters - trainableParameters : parameters,
    utilization: gemmPeak === null ? Number.NaN : flopsPerSecond / (gemmPeak * 1e9),
    optimizerSecondsPerParameter: optimizerSeconds / trainableParameters,
  };
}

/** What a job's rate is asked for by. */
export interface RatedJob {
  readonly model: string;
  readonly arch: string;
  readonly method: Method;
  readonly dtype: ComputeDType;
  readonly parameters: number;
  readonly trainableParameters: number;
  /** Work of training on a token, averaged over the job. */
  readonly flopsPerToken: number;
}

export interface Rate {
  readonly flopsPerSecond: number;
  /** Of each update; in `flopsPerSecond` already where that was given. */
  readonly optimizerSeconds: number;
  /** "measured", "from pythia-160m's utilisation (75%)", or as it was given. */
  readonly source: string;
  /** Size of this model over that of the measured one; 1: it was measured, null: it was given. */
  readonly sizeRatio: number | null;
}

/**
 * The rate of a job. One of a model that was not measured is that of the same method on the nearest measured size (by the ratio of
 * parameters; of the same family among equals): work per second changes little with size, tokens per second in proportion to it.
 *
 * @throws PolypacaError `USAGE` where nothing was measured or given for the method and type
 */
export function rateOf(rates: Rates, job: RatedJob): Rate {
  if (rates.kind === "tokens") {
    const flopsPerSecond = rates.tokensPerSecond * job.flopsPerToken;
    return { flopsPerSecond, optimizerSeconds: 0, source: `${rates.tokensPerSecond} tokens/s, given`, sizeRatio: null };
  }
  if (rates.kind === "flops") {
    const flopsPerSecond = rates.flopsPerSecond[job.method];
    if (flopsPerSecond !== null) return { flopsPerSecond, optimizerSeconds: 0, source: rates.description, sizeRatio: null };
    throw new PolypacaError("USAGE", `--utilization: says nothing about ${job.method}. Give one number, or lora=X,fft=Y.`);
  }
  const candidates = rates.cases.filter(({ method, dtype }) => method === job.method && dtype === job.dtype);
  if (candidates.length === 0) {
    const message = `--bench ${rates.files.join(" ")}: has no ${job.method} case in ${job.dtype}.`;
    throw new PolypacaError("USAGE", `${message} Measure one (polypaca bench --save), or give --tflops and --utilization.`);
  }
  const distance = ({ parameters }: MeasuredCase): number => Math.abs(Math.log(parameters / job.parameters));
  const isOther = ({ arch }: MeasuredCase): number => Number(arch !== job.arch);
  const nearest = candidates.toSorted((a, b) => distance(a) - distance(b) || isOther(a) - isOther(b))[0]!;
  const isMeasured = nearest.arch === job.arch && nearest.parameters === job.parameters;
  const share = Number.isNaN(nearest.utilization) ? "" : ` (${Math.round(100 * nearest.utilization)}%)`;
  return {
    flopsPerSecond: nearest.flopsPerSecond,
    optimizerSeconds: nearest.optimizerSecondsPerParameter * job.trainableParameters,
    source: isMeasured ? "measured" : `from ${measuredName(nearest)}'s utilisation${share}`,
    sizeRatio: isMeasured ? 1 : job.parameters / nearest.parameters,
  };
}

/** Cases that are no preset are called by their family, which says too little. */
function measuredName({ name, arch, parameters }: MeasuredCase): string {
  return name === arch ? `${name} ${formatParameters(parameters)}` : name;
}

/** 162322944 as "162M". */
export function formatParameters(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)}B` : `${Math.round(count / 1e6)}M`;
}
