/** Finds a model's weight files, whole or in shards, and lists the tensors in them. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { PolypacaError } from "../errors.js";
import { readJsonObject } from "./json-file.js";
import { readSafetensorsHeader } from "./safetensors.js";
import type { StoredTensor } from "./stored-tensor.js";
import { readTorchBin } from "./torch-bin.js";

/** By preference: what transformers would load. */
const candidates = [
  { name: "model.safetensors", sharded: false },
  { name: "model.safetensors.index.json", sharded: true },
  { name: "pytorch_model.bin", sharded: false },
  { name: "pytorch_model.bin.index.json", sharded: true },
] as const;

export interface WeightFiles {
  /** Of every file; several files may hold the same name. */
  readonly tensors: readonly StoredTensor[];
  readonly notes: readonly string[];
}

/**
 * Lists the tensors of the model in `dir`; safetensors are preferred where there are several forms.
 *
 * @throws PolypacaError `NOT_FOUND` where there are no weights or a shard is missing; `BAD_CHECKPOINT` for damaged files and for an
 *   index that does not fit its shards
 */
export async function readWeightFiles(dir: string): Promise<WeightFiles> {
  const found = candidates.filter(({ name }) => existsSync(join(dir, name)));
  const chosen = found[0];
  if (!chosen) throw await noWeights(dir);
  const passedOver = found.slice(1).map(({ name }) => name);
  const notes =
    passedOver.length > 0
      ? [`${dir}: weights are read from ${chosen.name}; ${passedOver.join(" and ")} stands beside it and is not read.`]
      : [];
  const path = join(dir, chosen.name);
  return { tensors: chosen.sharded ? await readShards(dir, path) : await readOne(path), notes };
}

async function noWeights(dir: string): Promise<PolypacaError> {
  const others = (await readdir(dir)).filter((name) => /\.(gguf|pth|pt|ckpt|h5|msgpack|safetensors|bin)$/.test(name));
  const seen = others.length > 0 ? ` It has ${others.join(", ")}.` : "";
  return new PolypacaError("NOT_FOUND", `${dir}: no weights. Looked for ${candidates.map(({ name }) => name).join(", ")}.${seen}`);
}

function readOne(path: string): Promise<readonly StoredTensor[]> {
  return path.endsWith(".safetensors") ? readSafetensorsHeader(path).then(({ tensors }) => tensors) : readTorchBin(path);
}

async function readShards(dir: string, indexPath: string): Promise<StoredTensor[]> {
  const shards = await readIndex(indexPath);
  for (const [name, tensors] of shards) {
    if (existsSync(join(dir, name))) continue;
    const what = tensors.length === 1 ? `"${tensors[0]}" is` : `${tensors.length} tensors are, "${tensors[0]}" the first of them`;
    throw new PolypacaError(
      "NOT_FOUND",
      `${join(dir, name)}: this shard is missing; ${basename(indexPath)} says that ${what} in it. Copy or download it again.`,
    );
  }
  const stored: StoredTensor[] = [];
  for (const [name, tensors] of shards) {
    const inShard = await readOne(join(dir, name));
    const present = new Set(inShard.map((tensor) => tensor.name));
    const missing = tensors.find((tensor) => !present.has(tensor));
    if (missing !== undefined) {
      throw new PolypacaError(
        "BAD_CHECKPOINT",
        `${join(dir, name)}: "${missing}" is not in it, but ${basename(indexPath)} says it is. The files are of different checkpoints: copy or download them again.`,
      );
    }
    stored.push(...inShard);
  }
  return stored;
}

/**
 * Shards by name, each with the tensors the index promises in it.
 *
 * @throws PolypacaError `BAD_CHECKPOINT` for an index that names no shards, or files elsewhere
 */
export async function readIndex(path: string): Promise<Map<string, string[]>> {
  const { weight_map: map } = await readJsonObject(path);
  const shards = new Map<string, string[]>();
  const entries = typeof map === "object" && map !== null ? Object.entries(map as Record<string, unknown>) : [];
  if (entries.length === 0)
    throw new PolypacaError("BAD_CHECKPOINT", `${path}: "weight_map" is missing or empty; it should name the file of every tensor.`);
  for (const [tensor, shard] of entries) {
    // A name with a path in it could reach out of the folder.
    if (typeof shard !== "string" || basename(shard) !== shard || !/\.(safetensors|bin)$/.test(shard)) {
      throw new PolypacaError(
        "BAD_CHECKPOINT",
        `${path}: "${tensor}" is said to be in ${JSON.stringify(shard)}; expected the name of a .safetensors or .bin file in the same folder.`,
      );
    }
    const tensors = shards.get(shard) ?? [];
    tensors.push(tensor);
    shards.set(shard, tensors);
  }
  return shards;
}
