/** Hugging Face model folders, read. */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { decoderSpecFromConfig, type ModelConfig } from "../families/index.js";
import type { TensorSource } from "../native/addon-types.js";
import { readJsonObject } from "./json-file.js";
import { matchTensors } from "./match-tensors.js";
import { readWeightFiles } from "./weight-files.js";

/** A model on disk that was found sound: headers were read, weights were not. */
export interface Checkpoint {
  readonly dir: string;
  /** config.json as it is. */
  readonly config: ModelConfig;
  readonly spec: DecoderSpec;
  /** Every tensor of the model, by the names in `spec` and in the model's order. */
  readonly sources: readonly TensorSource[];
  /** For the user to know; nothing is wrong. */
  readonly notes: readonly string[];
  /** Paths of the tokenizer's files, those that are there. */
  readonly tokenizerFiles: readonly string[];
}

/** Files that a tokenizer may come in. */
export const tokenizerFileNames: readonly string[] = [
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
];

/**
 * Reads what a model folder says of itself: config.json, and where each tensor lies in model.safetensors, pytorch_model.bin or
 * their shards.
 *
 * @throws PolypacaError `NOT_FOUND` (folder, config.json, weights or a shard), `BAD_CONFIG`, `UNSUPPORTED`, `BAD_CHECKPOINT`,
 *   `CHECKPOINT_MISMATCH`; each names file and field or tensor
 */
export async function openCheckpoint(dir: string): Promise<Checkpoint> {
  const config = await readModelConfig(dir);
  const spec = decoderSpecFromConfig(config, join(dir, "config.json"));
  const { tensors, notes } = await readWeightFiles(dir);
  return { dir, config, spec, sources: matchTensors(spec, tensors, dir), notes, tokenizerFiles: findTokenizerFiles(dir) };
}

/** config.json of a model folder. @throws PolypacaError `NOT_FOUND`, `BAD_CHECKPOINT` */
export async function readModelConfig(dir: string): Promise<ModelConfig> {
  const isFolder = await stat(dir).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) throw new PolypacaError("NOT_FOUND", `${dir}: no such folder. Expected a model folder with config.json and weights.`);
  const path = join(dir, "config.json");
  if (existsSync(path)) return readJsonObject(path);
  const hint = existsSync(join(dir, "adapter_config.json"))
    ? " It holds an adapter: give the base model as --model and this folder as --adapter."
    : "";
  throw new PolypacaError("NOT_FOUND", `${path}: no such file. A model folder has config.json beside its weights.${hint}`);
}

/** Paths of the tokenizer's files in a model folder, those that are there. */
export function findTokenizerFiles(dir: string): string[] {
  return tokenizerFileNames.map((name) => join(dir, name)).filter((path) => existsSync(path));
}

export { planModelFiles, writeModelFolder } from "./model-folder.js";
