import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { PolypacaError } from "../errors.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { languageOfFile, parseAlpaca, type ReadOptions } from "./alpaca.js";
import { type CachedExamples, cacheKey, readCache, writeCache } from "./cache.js";
import type { BadRecord } from "./json-records.js";
import {
  type Example,
  type SiftedExamples,
  siftExamples,
  type TokenizeEnvironment,
  type TokenizeSettings,
  tokenizeRecords,
} from "./tokenize.js";

export interface PrepareSettings extends TokenizeSettings, ReadOptions {
  readonly tokenizer: Tokenizer;
  /** Share of examples that may be without a target, 0 to 1; default 0.05. */
  readonly maxEmptyShare?: number;
  /** Folder for tokenised data; null or absent: none is kept. */
  readonly cacheDir?: string | null;
}

export interface PreparedData extends SiftedExamples {
  /** Records left out with `skipBadRecords`. */
  readonly bad: readonly BadRecord[];
  readonly files: readonly { readonly file: string; readonly sha256: string }[];
  readonly fromCache: boolean;
  /** What the user should know: a cache that could not be written. */
  readonly notes: readonly string[];
}

/** Change it with anything that makes other tokens of the same input: what was cached before is then not used. */
export const tokenisation = "bos, prompt and response as one text, eos";

/**
 * Examples of Alpaca files, in the order of the files: read, tokenised (or taken from the cache) and sifted.
 *
 * @throws PolypacaError as `readAlpaca`, `tokenizeRecords` and `siftExamples` do
 */
export async function prepareExamples(
  files: readonly string[],
  settings: PrepareSettings,
  environment: TokenizeEnvironment = {},
): Promise<PreparedData> {
  const sources = await Promise.all(files.map(readSource));
  const { tokenizer, template, cutoff, trainOn, language = null, skipBadRecords = false, cacheDir = null } = settings;
  const key = cacheKey({
    ...{ tokenisation, tokenizer: tokenizer.contentHash, template, cutoff, trainOn, language, skipBadRecords },
    files: sources.map(({ file, sha256 }) => [sha256, languageOfFile(file)]),
  });
  const cached = cacheDir === null ? null : await readCache(cacheDir, key, files);
  const notes: string[] = [];
  const content = cached ?? (await tokenizeSources(sources, settings, environment));
  if (cacheDir !== null && cached === null) {
    await writeCache(cacheDir, key, files, content).catch((cause: unknown) => {
      notes.push(`tokenised data could not be kept in ${cacheDir} (${PolypacaError.from(cause).message}); the next run tokenises again.`);
    });
  }
  return {
    ...siftExamples(content.examples, settings.maxEmptyShare ?? 0.05),
    bad: content.bad,
    files: sources.map(({ file, sha256 }) => ({ file, sha256 })),
    fromCache: cached !== null,
    notes,
  };
}

interface Source {
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly sha256: string;
}

async function readSource(file: string): Promise<Source> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  return { file, bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
}

async function tokenizeSources(
  sources: readonly Source[],
  settings: PrepareSettings,
  environment: TokenizeEnvironment,
): Promise<CachedExamples> {
  const read = sources.map(({ bytes, file }) => parseAlpaca(bytes, file, settings));
  const records = read.flatMap((file) => file.records);
  const examples: Example[] = await tokenizeRecords(records, settings.tokenizer, settings, environment);
  return { examples, bad: read.flatMap((file) => file.bad) };
}
