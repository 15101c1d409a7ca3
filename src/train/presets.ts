/**
 * The study's training settings as data. Source: the repository of "Monolingual or Multilingual Instruction Tuning: Which Makes
 * a Better Alpaca" (Chen et al., Findings of EACL 2024); what it leaves open is listed in `assumed`.
 */
import type { TrainSettings } from "./settings.js";

type PresetValues = Omit<TrainSettings, "model" | "data" | "out" | "preset">;

export interface TrainPreset {
  readonly name: PresetName;
  readonly values: PresetValues;
  /** Settings whose value the study does not state. */
  readonly assumed: readonly (keyof PresetValues)[];
}

export type PresetName = "paper-lora" | "paper-fft";

/** Settings that say how a run is done here and are no part of a recipe. */
const howItRuns = {
  maxSteps: null,
  microBatchTokens: null,
  template: null,
  validationFile: null,
  earlyStopping: null,
  // null: bf16 where the hardware has it, else fp32. The study loaded LoRA's base weights in 8 bits.
  dtype: null,
  device: "auto",
  recompute: "none",
  packing: "on",
  resume: false,
  dryRun: false,
  skipBadRecords: false,
  maxEmptyShare: 0.05,
  allowOvercommit: false,
} as const satisfies Partial<PresetValues>;

const lora = {
  ...howItRuns,
  method: "lora",
  loraRank: 8,
  loraAlpha: 16,
  loraDropout: 0.05,
  // null: key, query and value under the names they have in the model's family; see ModelFamily.studyLoraTargets.
  loraTargets: null,
  learningRate: 3e-4,
  epochs: 5,
  batchSize: 128,
  cutoff: 512,
  warmupSteps: 100,
  scheduler: "linear",
  optimizer: "adamw",
  weightDecay: 0,
  maxGradNorm: 1,
  trainOn: "prompt+response",
  validationSize: 1000,
  evalEvery: 200,
  saveEvery: 200,
  saveTotalLimit: 3,
  seed: 42,
} as const satisfies PresetValues;

const fft = {
  ...lora,
  method: "fft",
  learningRate: 2e-5,
  epochs: 3,
  batchSize: 256,
  warmupSteps: "3%",
  scheduler: "cosine",
  trainOn: "response",
} as const satisfies PresetValues;

export const trainPresets: Readonly<Record<PresetName, TrainPreset>> = {
  "paper-lora": { name: "paper-lora", values: lora, assumed: [] },
  "paper-fft": {
    name: "paper-fft",
    values: fft,
    assumed: ["warmupSteps", "scheduler", "validationSize", "seed", "evalEvery", "saveEvery"],
  },
};

/** AdamW's constants in both presets; no flags. */
export const adamW = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;
