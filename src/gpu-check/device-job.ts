/** Work on a device, in a process of its own. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type ErrorCode, PolypacaError } from "../errors.js";
import type { ModelShape } from "../families/family.js";
import type { Method } from "../families/work.js";
import type { ComputeDType } from "../native/addon-types.js";

/** Batches of a short run, which come round again: so the loss has something to fall on. */
export const shortRunBatches = 2;

/** A few steps of training a small model with random weights. */
export interface ShortRun {
  readonly device: string;
  readonly dtype: ComputeDType;
  readonly modelType: string;
  readonly shape: ModelShape;
  readonly method: Method;
  readonly sequenceLength: number;
  readonly sequences: number;
  readonly steps: number;
  readonly learningRate: number;
}

export type DeviceJob = { readonly kind: "open"; readonly device: string } | { readonly kind: "train"; readonly run: ShortRun };

export type DeviceReply =
  | { readonly opened: string }
  | { readonly losses: readonly number[] }
  | { readonly code: string; readonly message: string };

/**
 * Opens a device's back end and lets it go.
 *
 * @throws PolypacaError `UNSUPPORTED` that says what is missing: the build, the driver or the device
 */
export async function openDevice(device: string): Promise<void> {
  await run({ kind: "open", device });
}

/** The loss of every step. @throws PolypacaError whatever the run met */
export async function trainBriefly(shortRun: ShortRun): Promise<readonly number[]> {
  return ((await run({ kind: "train", run: shortRun })) as { readonly losses: readonly number[] }).losses;
}

const timeoutMs = 600_000;

async function run(job: DeviceJob): Promise<DeviceReply> {
  const child = fork(fileURLToPath(new URL("./device-child.js", import.meta.url)), { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  try {
    const reply = await new Promise<DeviceReply>((resolve, reject) => {
      child.once("message", (message) => resolve(message as DeviceReply));
      child.once("error", reject);
      child.once("exit", (code, name) =>
        reject(new PolypacaError("INTERNAL", `the process ended ${name === null ? `with ${code}` : `by ${name}`}`)),
      );
      child.send(job);
    });
    if ("code" in reply) throw new PolypacaError(reply.code as ErrorCode, reply.message);
    return reply;
  } finally {
    clearTimeout(timer);
  }
}
