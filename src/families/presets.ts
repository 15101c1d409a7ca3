/** Shapes of the published models of the study, for models with random weights. */
import { PolypacaError } from "../errors.js";
import type { ModelConfig, ModelShape } from "./family.js";
import { configFromShape } from "./index.js";

const bloomShape = (hidden: number, layers: number, heads: number): ModelPreset => ({
  modelType: "bloom",
  shape: { hidden, layers, heads, vocab: 250_880 },
});

/** Pythia's vocabularies are 50,257 tokens padded to what its model parallelism needed. */
const pythiaShape = (hidden: number, layers: number, heads: number, vocab = 50_304): ModelPreset => ({
  modelType: "gpt_neox",
  shape: { hidden, layers, heads, intermediate: 4 * hidden, vocab, maxPositions: 2048 },
});

const llamaShape = (hidden: number, layers: number, heads: number, intermediate: number): ModelPreset => ({
  modelType: "llama",
  shape: { hidden, layers, heads, intermediate, vocab: 32_000, maxPositions: 2048 },
});

const baichuan2Shape = (hidden: number, layers: number, heads: number, intermediate: number, maxPositions: number | null): ModelPreset => ({
  modelType: "baichuan",
  shape: { hidden, layers, heads, intermediate, vocab: 125_696, maxPositions },
});

export interface ModelPreset {
  readonly modelType: string;
  readonly shape: ModelShape;
}

/** By the models' published names. */
export const modelPresets = {
  "bloom-560m": bloomShape(1024, 24, 16),
  "bloom-1b1": bloomShape(1536, 24, 16),
  "bloom-1b7": bloomShape(2048, 24, 16),
  "bloom-3b": bloomShape(2560, 30, 32),
  "bloom-7b1": bloomShape(4096, 30, 32),
  "pythia-70m": pythiaShape(512, 6, 8),
  "pythia-160m": pythiaShape(768, 12, 12),
  "pythia-410m": pythiaShape(1024, 24, 16),
  "pythia-1b": pythiaShape(2048, 16, 8),
  "pythia-1.4b": pythiaShape(2048, 24, 16),
  "pythia-2.8b": pythiaShape(2560, 32, 32),
  "pythia-6.9b": pythiaShape(4096, 32, 32, 50_432),
  "pythia-12b": pythiaShape(5120, 36, 40, 50_688),
  "llama-7b": llamaShape(4096, 32, 32, 11_008),
  "llama-13b": llamaShape(5120, 40, 40, 13_824),
  "open-llama-3b": llamaShape(3200, 26, 32, 8640),
  "open-llama-7b": llamaShape(4096, 32, 32, 11_008),
  "open-llama-13b": llamaShape(5120, 40, 40, 13_824),
  "baichuan2-7b": baichuan2Shape(4096, 32, 32, 11_008, 4096),
  "baichuan2-13b": baichuan2Shape(5120, 40, 40, 13_696, null),
} as const satisfies Readonly<Record<string, ModelPreset>>;

export type ModelPresetName = keyof typeof modelPresets;

export const modelPresetNames = Object.keys(modelPresets) as readonly ModelPresetName[];

/**
 * The preset of this name, with some of its sizes replaced.
 *
 * @throws PolypacaError `USAGE` listing the names
 */
export function presetConfig(name: string, changes: Partial<ModelShape> = {}): ModelConfig {
  if (!Object.hasOwn(modelPresets, name))
    throw new PolypacaError("USAGE", `--preset ${name}: no such model. Presets: ${modelPresetNames.join(", ")}.`);
  const { modelType, shape } = modelPresets[name as ModelPresetName];
  return configFromShape(modelType, { ...shape, ...changes });
}
