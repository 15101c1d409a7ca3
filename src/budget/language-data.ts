/**
 * What `mix` must know of one language's file: where each record lies, what it is called, and what it costs. The texts themselves are
 * read again when they are written, record by record, so that memory does not grow with them.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { type AlpacaFile, type AlpacaRecord, parseAlpaca } from "../data/alpaca.js";
import { type CacheEntry, cacheKey, readEntry, writeEntry } from "../data/cache.js";
import type { BadRecord } from "../data/json-records.js";
import { tokenisation } from "../data/prepare.js";
import { recordRanges } from "../data/record-ranges.js";
import { type TokenizeSettings, tokenizeRecord } from "../data/tokenize.js";
import { PolypacaError } from "../errors.js";
import type { Tokenizer } from "../tokenizer/index.js";
import type { TokenCounts } from "./costs.js";

/** By record of the file, in its order; all of the same length. */
export interface RecordIndex {
  /** Byte ranges. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** From 1. */
  readonly lines: Int32Array;
  /** 1: `input` is not empty. */
  readonly hasInput: Int32Array;
  /** The record's `id` as text; null: it has none. */
  readonly ids: readonly (string | null)[];
}

export interface FileVersion {
  readonly size: number;
  readonly mtimeMs: number;
}

export interface LanguageData {
  readonly language: string;
  readonly file: string;
  readonly sha256: string;
  /** When and how long the file was; it is read a second time. */
  readonly version: FileVersion;
  readonly index: RecordIndex;
  /** null: no tokenizer was given. */
  readonly counts: TokenCounts | null;
  /** Malformed records that were left out. */
  readonly bad: readonly BadRecord[];
  readonly notes: readonly string[];
}

/** How tokens are counted; the text is that which `train` would tokenise. */
export interface Counting extends TokenizeSettings {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  /** Of the tokenizer there. */
  readonly contentHash: string;
}

/** All of it can be sent to a worker thread. */
export interface ReadJob {
  readonly language: string;
  readonly file: string;
  readonly skipBadRecords: boolean;
  readonly counting: Counting | null;
  /** Folder for what was found; null: none is kept. */
  readonly cacheDir: string | null;
}

export interface ReadEnvironment {
  readonly signal?: AbortSignal | undefined;
  /** Called while tokens are counted, not where they were cached. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Change it with anything that makes another index of the same bytes. */
const indexing = "starts, ends, lines, hasInput";

/**
 * Reads one language's file; index and token counts come from the cache where the same bytes were read before.
 *
 * @throws PolypacaError `NOT_FOUND`, `IO`; `BAD_RECORD`, `BAD_DATA` naming file and line, also where a record says that it is of another
 *   language than its file; `CANCELLED`
 */
export async function readLanguage(job: ReadJob, environment: ReadEnvironment = {}): Promise<LanguageData> {
  const { language, file, skipBadRecords, counting, cacheDir } = job;
  const { version, bytes } = await readVersion(file);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const cache = new LanguageCache(cacheDir, { sha256, language, skipBadRecords });
  let parsed: AlpacaFile | null = null;
  const parse = (): AlpacaFile => {
    parsed ??= parseAlpaca(bytes, file, { language, skipBadRecords });
    return parsed;
  };
  const found = (await cache.readIndex(file)) ?? (await cache.keepIndex(indexOf(bytes, parse(), language)));
  const known = { language, file, sha256, version, ...found, notes: cache.notes };
  if (counting === null) return { ...known, counts: null };
  const count = async (): Promise<TokenCounts> => cache.keepCounts(counting, await countTokens(parse().records, counting, environment));
  const counts = (await cache.readCounts(counting)) ?? (await count());
  return { ...known, counts };
}

async function readVersion(file: string): Promise<{ readonly version: FileVersion; readonly bytes: Uint8Array }> {
  try {
    const { size, mtimeMs } = await stat(file);
    return { version: { size, mtimeMs }, bytes: await readFile(file) };
  } catch (cause) {
    throw PolypacaError.from(cause);
  }
}

interface Indexed {
  readonly index: RecordIndex;
  readonly bad: readonly BadRecord[];
}

function indexOf(bytes: Uint8Array, { records, bad, file }: AlpacaFile, language: string): Indexed {
  const other = records.find((record) => record.language !== language);
  if (other) {
    throw new PolypacaError(
      "BAD_DATA",
      `${file} line ${other.place.line}: the record says that its language is "${other.language}", the file's name says "${language}". Put it into alpaca.${other.language}.json, or correct it.`,
    );
  }
  const { starts, ends } = recordRanges(bytes);
  if (starts.length !== records.length + bad.length)
    throw new PolypacaError("INTERNAL", `${file}: ${starts.length} byte ranges for ${records.length + bad.length} records`);
  const column = (value: (record: AlpacaRecord) => number): Int32Array => Int32Array.from(records, value);
  return {
    index: {
      starts: column(({ place }) => starts[place.index]!),
      ends: column(({ place }) => ends[place.index]!),
      lines: column(({ place }) => place.line),
      hasInput: column(({ input }) => Number(input !== "")),
      ids: records.map(({ id }) => id),
    },
    bad,
  };
}

/** The tokenizer of a thread: loading one takes as long as counting some thousand tokens. */
let loaded: { readonly contentHash: string; readonly tokenizer: Tokenizer } | null = null;

async function tokenizerOf({ tokenizer: folder, contentHash }: Counting): Promise<Tokenizer> {
  if (loaded?.contentHash === contentHash) return loaded.tokenizer;
  const { loadTokenizer } = await import("../tokenizer/index.js"); // a thread that finds its counts in the cache needs none of it
  const tokenizer = await loadTokenizer(folder, { needsConfig: false });
  loaded = { contentHash, tokenizer };
  return tokenizer;
}

/** At some 500,000 tokens per second and thread; the event loop runs in between. */
async function countTokens(
  records: readonly AlpacaRecord[],
  counting: Counting,
  { signal, onProgress }: ReadEnvironment,
): Promise<TokenCounts> {
  const tokenizer = await tokenizerOf(counting);
  const counts = { tokens: new Int32Array(records.length), targetTokens: new Int32Array(records.length) };
  const truncated = new Int32Array(records.length);
  for (const [i, record] of records.entries()) {
    if (i % 256 === 0) {
      onProgress?.(i, records.length);
      await setImmediate();
      if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while counting tokens; nothing was written.");
    }
    const example = tokenizeRecord(record, tokenizer, counting);
    counts.tokens[i] = example.inputIds.length;
    counts.targetTokens[i] = example.targetTokens;
    truncated[i] = Number(example.truncated);
  }
  onProgress?.(records.length, records.length);
  return { ...counts, truncated };
}

interface IndexHeader {
  readonly ids: RecordIndex["ids"];
  readonly bad: readonly Omit<BadRecord, "file">[];
}

/** What was found in a file, kept under the hash of its bytes. */
class LanguageCache {
  readonly notes: string[] = [];
  readonly #dir: string | null;
  readonly #source: object;

  constructor(dir: string | null, source: object) {
    this.#dir = dir;
    this.#source = source;
  }

  async readIndex(file: string): Promise<Indexed | null> {
    const entry = await this.#read<IndexHeader>("index", { indexing });
    if (entry === null) return null;
    const [starts, ends, lines, hasInput] = columns(entry.numbers, 4) as [Int32Array, Int32Array, Int32Array, Int32Array];
    const { ids, bad } = entry.header;
    return { index: { starts, ends, lines, hasInput, ids }, bad: bad.map((record) => ({ ...record, file })) };
  }

  async keepIndex(found: Indexed): Promise<Indexed> {
    const { starts, ends, lines, hasInput, ids } = found.index;
    const bad = found.bad.map(({ file: _, ...record }) => record);
    await this.#write("index", { indexing }, { header: { ids, bad }, numbers: endToEnd([starts, ends, lines, hasInput]) });
    return found;
  }

  async readCounts(counting: Counting): Promise<TokenCounts | null> {
    const entry = await this.#read("counts", countingKey(counting));
    if (entry === null) return null;
    const [tokens, targetTokens, truncated] = columns(entry.numbers, 3) as [Int32Array, Int32Array, Int32Array];
    return { tokens, targetTokens, truncated };
  }

  async keepCounts(counting: Counting, counts: TokenCounts): Promise<TokenCounts> {
    const numbers = endToEnd([counts.tokens, counts.targetTokens, counts.truncated]);
    await this.#write("counts", countingKey(counting), { header: {}, numbers });
    return counts;
  }

  async #read<Header>(kind: string, settings: object): Promise<CacheEntry<Header> | null> {
    const key = cacheKey({ kind, ...this.#source, ...settings });
    return this.#dir === null ? null : readEntry<Header>(join(this.#dir, `${key}.${kind}`), key);
  }

  async #write(kind: string, settings: object, entry: CacheEntry<object>): Promise<void> {
    if (this.#dir === null) return;
    const key = cacheKey({ kind, ...this.#source, ...settings });
    try {
      await mkdir(this.#dir, { recursive: true });
      await writeEntry(join(this.#dir, `${key}.${kind}`), key, entry);
    } catch (cause) {
      this.notes.push(`what was counted could not be kept in ${this.#dir} (${PolypacaError.from(cause).message}).`);
    }
  }
}

function countingKey({ contentHash, template, cutoff, trainOn }: Counting): object {
  return { tokenisation, contentHash, template, cutoff, trainOn };
}

function endToEnd(parts: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function columns(numbers: Int32Array, count: number): Int32Array[] {
  const length = numbers.length / count;
  return Array.from({ length: count }, (_, i) => numbers.slice(i * length, (i + 1) * length));
}
