/**
 * Every setting of `train`: one schema for the command line (kebab-case), YAML (camelCase) and the library.
 * Precedence: preset < YAML file < command line.
 */
import { z } from "zod";
import { type CheckedSettings, checkSettings } from "../settings/check-settings.js";

const count = z.int().positive();
const path = z.string().min(1);
const warmup = z.union([z.int().nonnegative(), z.string().regex(/^\d+(\.\d+)?%$/)], {
  error: 'expected a number of steps, or a share of the steps like "3%"',
});

export const trainSettingsSchema = z.strictObject({
  model: path,
  data: z.array(path).min(1),
  method: z.enum(["lora", "fft"]),
  out: path,
  preset: z.enum(["paper-lora", "paper-fft"]),
  loraRank: count,
  loraAlpha: z.number().positive(),
  loraDropout: z.number().min(0).lt(1),
  /** Module names as they end in the checkpoint; null: the study's for the model's family. */
  loraTargets: z.array(z.string().min(1)).min(1).nullable(),
  learningRate: z.number().positive(),
  epochs: z.number().positive(),
  /** Overrides `epochs`. */
  maxSteps: count.nullable(),
  /** Examples per optimiser step, whatever the packing. */
  batchSize: count,
  /** Tokens of a packed micro-batch; null: the largest that the predicted memory allows. */
  microBatchTokens: count.nullable(),
  /** Limit of one example in tokens. */
  cutoff: z.int().min(2),
  warmupSteps: warmup,
  scheduler: z.enum(["linear", "cosine", "constant"]),
  optimizer: z.enum(["adamw", "adamw8bit"]),
  weightDecay: z.number().nonnegative(),
  /** 0: no clipping. */
  maxGradNorm: z.number().nonnegative(),
  trainOn: z.enum(["prompt+response", "response"]),
  /** A file in the study's JSON form; null: the Alpaca template of the method. */
  template: path.nullable(),
  /** Records held out of `data`; 0: none. */
  validationSize: z.int().nonnegative(),
  /** Overrides `validationSize`. */
  validationFile: path.nullable(),
  evalEvery: count,
  saveEvery: count,
  saveTotalLimit: count,
  /** Evaluations without improvement after which a run stops; null: never. */
  earlyStopping: count.nullable(),
  seed: z.int().nonnegative().max(0xffffffff),
  dtype: z.enum(["fp32", "bf16"]).nullable(),
  device: z.string().regex(/^(auto|cpu|cuda(:\d+)?|cuda-emulated)$/, "expected auto, cpu, cuda, cuda:<n> or cuda-emulated"),
  recompute: z.enum(["none", "block"]),
  packing: z.enum(["on", "off"]),
  resume: z.boolean(),
  dryRun: z.boolean(),
  skipBadRecords: z.boolean(),
  /** Share of the data that may be without a target before that is an error. */
  maxEmptyShare: z.number().min(0).max(1),
  allowOvercommit: z.boolean(),
});

export type TrainSettings = Readonly<z.infer<typeof trainSettingsSchema>>;
export type SettingName = keyof TrainSettings;

export const settingNames = Object.keys(trainSettingsSchema.shape) as readonly SettingName[];

/** Some of the settings, as a YAML file or a command line gives them. */
export type SomeSettings = { readonly [name in SettingName]?: TrainSettings[name] | undefined };

/** Checks a partial set of settings; names that do not exist come with the nearest one that does. */
export function checkSomeSettings(input: unknown): CheckedSettings<SomeSettings> {
  return checkSettings<SomeSettings>(trainSettingsSchema.partial(), settingNames, input);
}
