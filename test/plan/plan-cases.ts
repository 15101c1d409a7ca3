/** Saved bench results and hardware for plans. */
import { trainPresets } from "../../src/index.js";
import { loadAddon } from "../../src/native/load.js";
import type { Hardware, TrainRecipe } from "../../src/plan/plan-grid.js";

export interface CaseFigures {
  readonly name: string;
  readonly arch: string;
  readonly method: "lora" | "fft";
  readonly parameters: number;
  readonly trainableParameters: number;
  readonly flopsPerToken: number;
  /** Step of 1,000 tokens; the update is a part of it. */
  readonly stepSeconds: number;
  readonly optimizerSeconds: number;
  readonly dtype?: "fp32" | "bf16";
}

/** A file of `bench --save`, as far as `plan` reads it. */
export function benchFile(cases: readonly CaseFigures[], machine: object = {}): object {
  return {
    machine: { cpu: "A CPU", threads: 2, bf16Dot: true, amxBf16: false, memoryTotal: 8e9, ...machine },
    gemmPeak: { fp32: 400, bf16: 800 },
    cases: cases.map((figures) => ({ dtype: "bf16", device: "cpu", tokensPerStep: 1000, ...figures })),
  };
}

export function recipe(method: "lora" | "fft", changes: Partial<TrainRecipe> = {}): TrainRecipe {
  return { ...trainPresets[`paper-${method}`].values, ...changes };
}

export function hardware(changes: Partial<Hardware> = {}): Hardware {
  const addon = loadAddon();
  return {
    ...{ device: "cpu", dtype: "bf16", memoryBytes: 64 * 2 ** 30, rates: null, pricePerHour: null, memoryDevice: "cpu" },
    planMemory: (...job) => addon.planMemory(...job),
    ...changes,
  };
}
