/** Which files of a repository are wanted. */
import { tokenizerFileNames } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import { matchesGlob } from "./glob.js";
import type { RemoteFile } from "./hub.js";
import type { FetchSettings } from "./settings.js";

/** By preference, as transformers and our own reader have it. */
const weights = [
  { name: "model.safetensors", isIndex: false },
  { name: "model.safetensors.index.json", isIndex: true },
  { name: "pytorch_model.bin", isIndex: false },
  { name: "pytorch_model.bin.index.json", isIndex: true },
] as const;

const besideWeights: ReadonlySet<string> = new Set(["config.json", "generation_config.json", ...tokenizerFileNames]);

/** The card, and what says under which terms the rest may be used. */
function isTerms(path: string): boolean {
  return path === "README.md" || (!path.includes("/") && /licen[cs]e|^(?:copying|notice|use_policy)\b/i.test(path));
}

export interface Selected {
  readonly name: string;
  readonly files: readonly RemoteFile[];
  readonly settings: Pick<FetchSettings, "files" | "include">;
}

/**
 * A model's weights in one form, configuration, tokenizer and terms, and what `include` names.
 *
 * @param readIndex gives the shards that an index names
 * @throws PolypacaError `NOT_FOUND` where it has no configuration or weights, a shard is missing, or a pattern matches nothing
 */
export async function selectModelFiles(
  { name, files, settings }: Selected,
  readIndex: (index: RemoteFile) => Promise<readonly string[]>,
): Promise<RemoteFile[]> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const form = weights.find((candidate) => byPath.has(candidate.name));
  if (!byPath.has("config.json") || form === undefined) {
    const lacks = form === undefined ? `none of ${weights.map((candidate) => candidate.name).join(", ")}` : "no config.json";
    throw new PolypacaError("NOT_FOUND", `${name}: no model in Hugging Face form: it has ${lacks}, but ${listed(files)}.`);
  }
  const index = byPath.get(form.name)!;
  const shards = form.isIndex ? await readIndex(index) : [];
  const missing = shards.find((shard) => !byPath.has(shard));
  if (missing !== undefined) throw new PolypacaError("NOT_FOUND", `${name}: ${form.name} names ${missing}, which the repository lacks.`);
  const wanted = new Set([form.name, ...shards]);
  return withIncluded(name, files, settings.include, ({ path }) => wanted.has(path) || besideWeights.has(path) || isTerms(path));
}

/**
 * The .json and .jsonl files, or those of them that `files` names, with the terms and what `include` names.
 *
 * @throws PolypacaError `NOT_FOUND` where there are none, or a pattern matches nothing
 */
export function selectDataFiles({ name, files, settings }: Selected): RemoteFile[] {
  const records = files.filter(({ path }) => /\.jsonl?$/i.test(path));
  const patterns = settings.files ?? [];
  refuseIdle(name, "--files", patterns, records);
  const wanted = patterns.length === 0 ? records : records.filter(({ path }) => patterns.some((pattern) => matchesGlob(path, pattern)));
  if (wanted.length === 0 && (settings.include ?? []).length === 0) {
    const advice = "Fetch others by --include PATTERN (polypaca reads JSON and JSONL alone).";
    throw new PolypacaError("NOT_FOUND", `${name}: no .json or .jsonl file, but ${listed(files)}. ${advice}`);
  }
  const chosen = new Set(wanted);
  return withIncluded(name, files, settings.include, (file) => chosen.has(file) || isTerms(file.path));
}

function withIncluded(
  name: string,
  files: readonly RemoteFile[],
  include: readonly string[] = [],
  isWanted: (file: RemoteFile) => boolean,
): RemoteFile[] {
  refuseIdle(name, "--include", include, files);
  return files.filter((file) => isWanted(file) || include.some((pattern) => matchesGlob(file.path, pattern)));
}

function refuseIdle(name: string, flag: string, patterns: readonly string[], files: readonly RemoteFile[]): void {
  const idle = patterns.find((pattern) => !files.some(({ path }) => matchesGlob(path, pattern)));
  if (idle !== undefined) throw new PolypacaError("NOT_FOUND", `${flag} ${idle}: matches none of the files of ${name}: ${listed(files)}.`);
}

const mostListed = 8;

function listed(files: readonly RemoteFile[]): string {
  if (files.length === 0) return "no file at all";
  const more = files.length > mostListed ? ` and ${files.length - mostListed} more` : "";
  return `${files
    .slice(0, mostListed)
    .map(({ path }) => path)
    .join(", ")}${more}`;
}
