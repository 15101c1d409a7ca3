/** Hugging Face model folders, written. */
import { copyFile, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import type { ModelConfig } from "../families/index.js";
import { elementCount } from "../families/parameters.js";
import type { ComputeDType, NativeModel, StoredDType, TensorInfo } from "../native/addon-types.js";
import { writeFileSynced, writeFolderAtomic } from "./atomic.js";
import type { Checkpoint } from "./hf-folder.js";
import { safetensorsHeader } from "./safetensors.js";
import { elementBytes } from "./stored-tensor.js";

/** transformers' default. */
const maxShardBytes = 5e9;

export const storedDTypeOf: Readonly<Record<ComputeDType, StoredDType>> = { fp32: "F32", bf16: "BF16" };
const torchDTypeOf: Readonly<Record<ComputeDType, string>> = { fp32: "float32", bf16: "bfloat16" };

/** A weight file to write. */
export interface PlannedFile {
  readonly name: string;
  /** What stands before the tensors. */
  readonly header: Uint8Array;
  readonly tensors: readonly TensorInfo[];
  readonly fileBytes: number;
}

export interface ModelFilesPlan {
  readonly files: readonly PlannedFile[];
  /** model.safetensors.index.json; null where one file holds everything. */
  readonly index: string | null;
  /** Of the tensors, without headers. */
  readonly tensorBytes: number;
}

/**
 * Lays out a model's weight files: one, or shards that are filled in the tensors' order up to `shardBytes` (default 5 GB; a larger
 * tensor has a shard to itself).
 */
export function planModelFiles(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  dtype: StoredDType,
  shardBytes = maxShardBytes,
): ModelFilesPlan {
  const infos = tensors.map(({ name, shape }) => ({ name, shape, dtype }));
  const shards = splitIntoShards(infos, shardBytes);
  const files = shards.map((shard, index) => {
    const { header, fileBytes } = safetensorsHeader(shard);
    return { name: shardName(index, shards.length), header, tensors: shard, fileBytes };
  });
  const tensorBytes = infos.reduce((sum, info) => sum + bytesOf(info), 0);
  if (files.length === 1) return { files, index: null, tensorBytes };
  const weightMap = Object.fromEntries(files.flatMap((file) => file.tensors.map(({ name }) => [name, file.name])));
  return { files, index: jsonText({ metadata: { total_size: tensorBytes }, weight_map: weightMap }), tensorBytes };
}

function splitIntoShards(infos: readonly TensorInfo[], shardBytes: number): TensorInfo[][] {
  const shards: TensorInfo[][] = [[]];
  let filled = 0;
  for (const info of infos) {
    const bytes = bytesOf(info);
    if (filled > 0 && filled + bytes > shardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(info);
    filled += bytes;
  }
  return shards;
}

function bytesOf({ shape, dtype }: TensorInfo): number {
  return elementCount(shape) * elementBytes[dtype]!;
}

function shardName(index: number, shards: number): string {
  const number = (n: number): string => String(n).padStart(5, "0");
  return shards === 1 ? "model.safetensors" : `model-${number(index + 1)}-of-${number(shards)}.safetensors`;
}

function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

export interface ModelFolderContents {
  /** Written as config.json, with its dtype brought up to date. */
  readonly config: ModelConfig;
  /** Type of the written weights. */
  readonly dtype: ComputeDType;
  /** Where the model was loaded from: its tokenizer, generation_config.json and model code (Baichuan) are copied. */
  readonly source?: Checkpoint;
  /** Paths of further tokenizer files to copy; they replace those of `source`. */
  readonly tokenizerFiles?: readonly string[];
  /** Default 5e9. */
  readonly shardBytes?: number;
}

/**
 * Writes a folder that transformers and polypaca load; complete or absent.
 *
 * @throws PolypacaError `USAGE` where `dir` is not empty; `DISK_FULL`, `IO`
 */
export async function writeModelFolder(
  model: Pick<NativeModel, "tensors" | "write">,
  dir: string,
  contents: ModelFolderContents,
): Promise<void> {
  const plan = planModelFiles(model.tensors("weights"), storedDTypeOf[contents.dtype], contents.shardBytes);
  await writeFolderAtomic(dir, async (folder) => {
    for (const path of await companionFiles(contents)) await copyFile(path, join(folder, basename(path)));
    await writeFileSynced(join(folder, "config.json"), jsonText(withDType(contents.config, contents.dtype)));
    for (const { name, header, tensors } of plan.files) {
      await model.write({ path: join(folder, name), header, tensors: tensors.map(({ name, dtype }) => ({ name, dtype })) });
    }
    if (plan.index !== null) await writeFileSynced(join(folder, "model.safetensors.index.json"), plan.index);
  });
}

/** Files to copy, later ones replacing earlier ones of the same name. */
async function companionFiles({ source, tokenizerFiles = [] }: ModelFolderContents): Promise<string[]> {
  if (!source) return [...tokenizerFiles];
  const own = (await readdir(source.dir)).filter((name) => name === "generation_config.json" || name.endsWith(".py"));
  return [...source.tokenizerFiles, ...own.map((name) => join(source.dir, name)), ...tokenizerFiles];
}

/** transformers 5 calls the field `dtype`, earlier ones `torch_dtype`. */
function withDType(config: ModelConfig, dtype: ComputeDType): ModelConfig {
  const field = "dtype" in config && !("torch_dtype" in config) ? "dtype" : "torch_dtype";
  return { ...config, [field]: torchDTypeOf[dtype] };
}
