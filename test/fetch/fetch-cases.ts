/** Repositories to fetch from a test's hub, and what a fetch is given. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { defaultRetryPolicy } from "../../src/endpoint/retry.js";
import type { FetchEnvironment } from "../../src/fetch/fetch.js";
import { fetchManifestName } from "../../src/fetch/manifest.js";
import { numbersFrom } from "../data/data-folder.js";
import type { Files, HubServer } from "./hub-server.js";

export function bytes(count: number, seed: number): Buffer {
  const number = numbersFrom(seed);
  return Buffer.from(Array.from({ length: count }, () => number(256)));
}

export const index = (shards: readonly string[]): Buffer =>
  Buffer.from(
    JSON.stringify({ metadata: { total_size: 1 }, weight_map: Object.fromEntries(shards.map((shard, i) => [`tensor.${i}`, shard])) }),
  );

/** A sharded model with much that is not wanted beside it. */
export const modelFiles: Files = {
  ".gitattributes": Buffer.from("*.safetensors filter=lfs"),
  "README.md": Buffer.from("---\nlicense: apache-2.0\n---\n# A model"),
  LICENSE: Buffer.from("Apache License"),
  "config.json": Buffer.from('{"model_type":"bloom"}'),
  "generation_config.json": Buffer.from("{}"),
  "flax_model.msgpack": bytes(3_000, 1),
  "model-00001-of-00002.safetensors": bytes(50_000, 2),
  "model-00002-of-00002.safetensors": bytes(30_000, 3),
  "model.safetensors.index.json": index(["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
  "onnx/model.onnx": bytes(2_000, 4),
  "pytorch_model.bin": bytes(4_000, 5),
  "special_tokens_map.json": Buffer.from("{}"),
  "tokenizer.json": bytes(20_000, 6),
  "tokenizer_config.json": Buffer.from('{"add_bos_token":false}'),
  "training_args.bin": bytes(100, 7),
};

export const wantedOfModel = [
  "LICENSE",
  "README.md",
  "config.json",
  "generation_config.json",
  "model-00001-of-00002.safetensors",
  "model-00002-of-00002.safetensors",
  "model.safetensors.index.json",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

export interface TestEnvironment extends FetchEnvironment {
  readonly lines: string[];
}

/** Retries without waits. */
export function testEnvironment(server: Pick<HubServer, "url">, more: Partial<FetchEnvironment> = {}): TestEnvironment {
  const lines: string[] = [];
  return {
    ...{ endpoint: server.url, token: null, note: (line) => void lines.push(line), now: Date.now, random: () => 0, timeoutMs: 5_000 },
    retry: { ...defaultRetryPolicy, firstDelayMs: 1, longestDelayMs: 2 },
    ...more,
    lines,
  };
}

/** Paths and hashes of what lies in a fetched folder, without its manifest. */
export function filesIn(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => statSync(join(folder, name)).isFile());
  return hashed(names.filter((name) => name !== fetchManifestName).map((name) => [name, readFileSync(join(folder, name))]));
}

/** The same of some files of a repository. */
export function only(files: Files, names: readonly string[]): Record<string, string> {
  return hashed(names.map((name) => [name, files[name]!]));
}

function hashed(files: readonly (readonly [string, Buffer])[]): Record<string, string> {
  return Object.fromEntries(files.map(([name, content]) => [name, createHash("sha256").update(content).digest("hex")]));
}

/** Bytes that a stopped fetch left of a file. */
export function partBytes(out: string, name: string): number {
  const work = `${out}.part`;
  const part = existsSync(work) ? readdirSync(work).find((entry) => entry.startsWith(`${name}.`) && entry.endsWith(".part")) : undefined;
  return part === undefined ? 0 : statSync(join(work, part)).size;
}
