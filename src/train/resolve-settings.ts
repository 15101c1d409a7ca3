import { PolypacaError } from "../errors.js";
import { flagOf } from "../settings/check-settings.js";
import { type PresetName, trainPresets } from "./presets.js";
import { type SomeSettings, type TrainSettings, trainSettingsSchema } from "./settings.js";

/**
 * Merges preset, file and command line into the settings of a run.
 *
 * @throws PolypacaError `USAGE` where a setting without a default is missing or two settings contradict each other,
 *   `UNSUPPORTED` for what this build does not do
 */
export function resolveSettings(fromFile: SomeSettings, fromCommandLine: SomeSettings): TrainSettings {
  const given = { ...defined(fromFile), ...defined(fromCommandLine) };
  const preset = given.preset ?? presetOf(given.method);
  const merged = { ...trainPresets[preset].values, ...given, preset };
  for (const name of ["model", "data", "out"] as const) {
    if (merged[name] === undefined) throw new PolypacaError("USAGE", `${flagOf(name)} is required (or "${name}" in the --config file).`);
  }
  const settings = trainSettingsSchema.parse(merged);
  assertConsistent(settings);
  return settings;
}

function presetOf(method: TrainSettings["method"] | undefined): PresetName {
  if (method !== undefined) return `paper-${method}`;
  throw new PolypacaError("USAGE", "--method lora|fft is required (or --preset paper-lora|paper-fft, which brings a method).");
}

function defined(settings: SomeSettings): Partial<TrainSettings> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Partial<TrainSettings>;
}

function assertConsistent(settings: TrainSettings): void {
  const { microBatchTokens, cutoff } = settings;
  if (microBatchTokens !== null && microBatchTokens < cutoff) {
    throw new PolypacaError(
      "USAGE",
      `--micro-batch-tokens ${microBatchTokens} cannot hold an example of --cutoff ${cutoff} tokens. Raise the one or lower the other.`,
    );
  }
  if (settings.device.startsWith("cuda") && settings.dtype === "fp32") {
    throw new PolypacaError("USAGE", `--dtype fp32 with --device ${settings.device}: CUDA trains in bf16 only. Use --dtype bf16.`);
  }
  if (settings.earlyStopping !== null && settings.validationSize === 0 && settings.validationFile === null) {
    throw new PolypacaError("USAGE", "--early-stopping needs validation data: set --validation-size or --validation-file.");
  }
}
