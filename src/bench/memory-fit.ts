/** Predicts what cases need, refuses what does not fit, and decides which may be alive together. */
import { PolypacaError } from "../errors.js";
import type { Addon, MemoryPlan, TrainerOptions } from "../native/addon-types.js";
import { adamW } from "../train/presets.js";
import { type BenchCase, stepTokens } from "./cases.js";

export function trainerOptionsOf({ method, shape }: BenchCase): TrainerOptions {
  return { ...adamW, method, weightDecay: 0, maxGradNorm: 1, recompute: "none", microBatchTokens: stepTokens(shape), seed: 0 };
}

/** What training this case takes; nothing is allocated. */
export function planCase(addon: Addon, benchCase: BenchCase): MemoryPlan {
  const { method, lora, dtype, device, shape } = benchCase;
  const adapter = method === "lora" ? { ...lora, scaling: lora.alpha / lora.rank, seed: 0 } : null;
  return addon.planMemory(shape.spec, adapter, { device, dtype, allowOvercommit: false }, trainerOptionsOf(benchCase));
}

export interface PlannedCase {
  readonly benchCase: BenchCase;
  readonly plannedBytes: number;
}

export interface PlannedCases {
  /** Those that fit, each with its predicted need. */
  readonly planned: readonly PlannedCase[];
  /** A line for each that was left out: its key and its need. */
  readonly leftOut: readonly string[];
}

/**
 * Predicts every case on its device.
 *
 * @param mayLeaveOut what does not fit is left out as long as something does; else it is refused
 * @throws PolypacaError `OUT_OF_MEMORY` naming each case that does not fit, with figures
 */
export function planCases(addon: Addon, cases: readonly BenchCase[], mayLeaveOut = false): PlannedCases {
  const available = availableOn(addon, cases[0]!.device);
  const plans = cases.map((benchCase) => ({ benchCase, plan: planCase(addon, benchCase) }));
  const short = plans.filter(({ plan }) => plan.total > available);
  const lines = short.map(({ benchCase, plan }) => `${benchCase.key}: ${mib(plan.total)} MiB (${partsOf(plan)})`);
  if (short.length > 0 && !(mayLeaveOut && short.length < plans.length)) {
    const loraFits = plans.some(({ benchCase, plan }) => benchCase.method === "lora" && plan.total <= available);
    const narrower = short.some(({ benchCase }) => benchCase.dtype === "fp32") ? "--dtype bf16, " : "";
    const advice = `Try ${loraFits ? "--method lora, " : ""}${narrower}a smaller --micro-batch or --seq, or a smaller shape.`;
    throw new PolypacaError(
      "OUT_OF_MEMORY",
      `${mib(available)} MiB are available, which is too little for\n  ${lines.join("\n  ")}\n${advice}`,
    );
  }
  const fitting = plans.filter(({ plan }) => plan.total <= available);
  const leftOut = lines.map((line) => `${line}, and ${mib(available)} MiB are available`);
  return { planned: fitting.map(({ benchCase, plan }) => ({ benchCase, plannedBytes: plan.total })), leftOut };
}

/** Bytes that may still be taken: of the host, or of a GPU. */
export function availableOn(addon: Addon, device: string): number {
  return addon.memoryUsage(device).available;
}

function partsOf(plan: MemoryPlan): string {
  return (["weights", "gradients", "optimizer", "activations", "head"] as const).map((part) => `${part} ${mib(plan[part])}`).join(", ");
}

function mib(bytes: number): string {
  return Math.ceil(bytes / 2 ** 20).toLocaleString("en-US");
}

/**
 * Cuts the list into runs of neighbours that fit `budgetBytes` together. Cases of one shape and dtype stay together where they fit,
 * so that LoRA and FFT are measured side by side.
 */
export function groupByMemory(planned: readonly PlannedCase[], budgetBytes: number): PlannedCase[][] {
  const groups: PlannedCase[][] = [];
  const bytesOf = (list: readonly PlannedCase[]): number => list.reduce((sum, { plannedBytes }) => sum + plannedBytes, 0);
  const place = (unit: readonly PlannedCase[]): void => {
    const last = groups.at(-1);
    if (last && bytesOf(last) + bytesOf(unit) <= budgetBytes) last.push(...unit);
    else groups.push([...unit]);
  };
  for (const pair of neighbours(planned)) {
    if (bytesOf(pair) <= budgetBytes) place(pair);
    else for (const single of pair) place([single]);
  }
  return groups;
}

/** Runs of cases that differ in the method only. */
function neighbours(planned: readonly PlannedCase[]): PlannedCase[][] {
  const runs: PlannedCase[][] = [];
  for (const next of planned) {
    const previous = runs.at(-1)?.at(-1)?.benchCase;
    const { shape, dtype } = next.benchCase;
    if (previous?.shape === shape && previous.dtype === dtype) runs.at(-1)!.push(next);
    else runs.push([next]);
  }
  return runs;
}
