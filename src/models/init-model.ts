/** Randomly initialised models in Hugging Face form: to train small ones from scratch, and to measure speed without weights. */
import { copyFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { writeFileSynced, writeFolderAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { givenSizes, type ShapeFlags } from "../families/family.js";
import { configFromShape, decoderSpecFromConfig, type ModelConfig, type ModelShape } from "../families/index.js";
import { modelPresets, presetConfig } from "../families/presets.js";
import type { ComputeDType } from "../native/addon-types.js";
import { Model } from "../native/model.js";
import {
  byteLevelSpecialTokens,
  byteLevelTokenizer,
  inspectTokenizerFile,
  smallestByteLevelVocabSize,
  type TokenizerFiles,
} from "../tokenizer/index.js";
import { assertFreeFolder } from "./assert-free-folder.js";

export interface InitModelSettings extends ShapeFlags {
  /** `model_type`; null: the preset's. */
  readonly arch: string | null;
  /** Name of a published model whose shape is taken; null: every size is given. */
  readonly preset: string | null;
  /** Default: the preset's, the tokenizer's, or the least that a byte-level tokenizer needs. */
  readonly vocab?: number | undefined;
  /** tokenizer.json or tokenizer.model to copy; null: a byte-level tokenizer of the vocabulary's size is made. */
  readonly tokenizer: string | null;
  readonly seed: number;
  /** Type of the weights. */
  readonly dtype: ComputeDType;
  readonly device: string;
  readonly out: string;
}

export interface InitModelResult {
  readonly out: string;
  readonly modelType: string;
  readonly parameters: number;
  readonly vocabSize: number;
  readonly dtype: ComputeDType;
}

/**
 * Writes the model; the same seed gives the same weights on every machine.
 *
 * @throws PolypacaError `USAGE`, `INVALID_ARGUMENT`, `BAD_CONFIG` where sizes are missing or contradict each other or the
 *   tokenizer; `USAGE` where `out` is not empty; `OUT_OF_MEMORY`
 */
export async function initModel(settings: InitModelSettings): Promise<InitModelResult> {
  await assertFreeFolder(settings.out);
  const { config, writeTokenizer } = await planModel(settings);
  const spec = decoderSpecFromConfig(config, "init-model");
  const { seed, dtype, device, out } = settings;
  const model = await Model.init(spec, { seed, dtype, device, config, initializerRange: Number(config.initializer_range ?? 0.02) });
  try {
    await writeFolderAtomic(out, async (folder) => {
      await model.save(folder);
      await writeTokenizer(folder);
    });
    return { out, modelType: spec.modelType, parameters: model.parameters, vocabSize: spec.vocabSize, dtype };
  } finally {
    await model.dispose();
  }
}

interface ModelPlan {
  readonly config: ModelConfig;
  readonly writeTokenizer: (folder: string) => Promise<void>;
}

/** Decides vocabulary and special tokens, which configuration and tokenizer must agree on. */
async function planModel(settings: InitModelSettings): Promise<ModelPlan> {
  const { tokenizer } = settings;
  if (tokenizer === null) {
    const idOf = (token: (typeof byteLevelSpecialTokens)[number]): number => byteLevelSpecialTokens.indexOf(token);
    const ids = { bosTokenId: idOf("<s>"), eosTokenId: idOf("</s>"), padTokenId: idOf("<pad>") };
    const config = configOf(settings, smallestByteLevelVocabSize, ids);
    const files = byteLevelTokenizer(Number(config.vocab_size));
    return { config, writeTokenizer: (folder) => writeByteLevel(folder, files) };
  }
  const info = await inspectTokenizerFile(tokenizer);
  const { vocab } = settings;
  if (vocab !== undefined && vocab < info.vocabSize) {
    throw new PolypacaError("USAGE", `--vocab ${vocab}: ${tokenizer} has ${info.vocabSize} tokens. Leave --vocab out, or raise it.`);
  }
  const ids: Partial<ModelShape> = {
    ...(info.bosTokenId !== null && { bosTokenId: info.bosTokenId }),
    ...(info.eosTokenId !== null && { eosTokenId: info.eosTokenId }),
  };
  const config = configOf(settings, info.vocabSize, ids);
  if (Number(config.vocab_size) < info.vocabSize) {
    throw new PolypacaError(
      "USAGE",
      `--preset ${settings.preset}: its vocabulary of ${config.vocab_size} is too small for ${tokenizer} (${info.vocabSize} tokens). Add --vocab ${info.vocabSize}.`,
    );
  }
  const name = basename(tokenizer).endsWith(".model") ? "tokenizer.model" : "tokenizer.json";
  return { config, writeTokenizer: (folder) => copyFile(tokenizer, join(folder, name)) };
}

function configOf(settings: InitModelSettings, defaultVocab: number, ids: Partial<ModelShape>): ModelConfig {
  const { arch, preset, hidden, layers, heads } = settings;
  const given = givenSizes(settings);
  if (preset !== null) {
    const config = presetConfig(preset, { ...given, ...ids });
    if (arch === null || arch === config.model_type) return config;
    throw new PolypacaError("USAGE", `--arch ${arch}: --preset ${preset} is ${String(config.model_type)}. Leave --arch out.`);
  }
  if (arch === null) {
    throw new PolypacaError("USAGE", `--arch is required without --preset. Presets: ${Object.keys(modelPresets).join(", ")}.`);
  }
  if (hidden === undefined || layers === undefined || heads === undefined) {
    throw new PolypacaError("USAGE", "--hidden, --layers and --heads are required without --preset.");
  }
  return configFromShape(arch, { vocab: defaultVocab, ...given, ...ids, hidden, layers, heads });
}

async function writeByteLevel(folder: string, { tokenizer, config }: TokenizerFiles): Promise<void> {
  await writeFileSynced(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  await writeFileSynced(join(folder, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
}
