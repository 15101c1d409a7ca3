/**
 * Tokenised data on disk, so that a second run starts at once. A file is named after the hash of all that decides its content, and
 * ends with a hash of its own bytes: one that is cut short or changed counts as absent.
 *
 * Layout: uint32 length of the header, the header (JSON, padded with spaces to 4 bytes), int32 numbers, SHA-256 of what is before it.
 * Numbers are little-endian. Those of tokenised data: rows of `rowFields` per example, then the ids of all examples end to end.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import type { BadRecord, RecordPlace } from "./json-records.js";
import { type Example, ignoredLabel, maskedLabels } from "./tokenize.js";

export interface CachedExamples {
  readonly examples: readonly Example[];
  readonly bad: readonly BadRecord[];
}

/** What a cache file holds: numbers, and a header that says what they are. */
export interface CacheEntry<Header> {
  readonly header: Header;
  readonly numbers: Int32Array;
}

interface Header {
  readonly examples: number;
  readonly languages: readonly string[];
  /** `file` is an index here, since the same bytes may lie elsewhere next time. */
  readonly bad: readonly (Omit<BadRecord, "file"> & { readonly file: number })[];
}

const rowFields = ["file", "index", "line", "column", "language", "masked", "truncated", "length"] as const;
const digestBytes = 32;

/** A hash of `content`, which must be JSON: name of the cache file. */
export function cacheKey(content: object): string {
  return createHash("sha256").update(JSON.stringify(content)).digest("hex");
}

/**
 * @param files the data files by index, as at writing
 * @returns null where there is no such entry or it is damaged
 */
export async function readCache(dir: string, key: string, files: readonly string[]): Promise<CachedExamples | null> {
  const entry = await readEntry<Header>(cacheFile(dir, key), key);
  return entry && toExamples(entry, files);
}

/** @throws PolypacaError `IO`, `DISK_FULL` */
export async function writeCache(dir: string, key: string, files: readonly string[], content: CachedExamples): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeEntry(cacheFile(dir, key), key, toEntry(files, content));
}

function cacheFile(dir: string, key: string): string {
  return join(dir, `${key}.tokens`);
}

/**
 * @param key what the entry was written under
 * @returns null where there is no such entry or it is damaged
 */
export async function readEntry<Header>(file: string, key: string): Promise<CacheEntry<Header> | null> {
  try {
    const bytes = await readFile(file);
    const body = bytes.subarray(0, -digestBytes);
    if (!createHash("sha256").update(body).digest().equals(bytes.subarray(-digestBytes))) return null;
    const numbersAt = 4 + body.readUInt32LE(0);
    const header: Header & { readonly key: string } = JSON.parse(body.toString("utf8", 4, numbersAt));
    // Copied, since a view needs an offset that is a multiple of 4.
    return header.key === key ? { header, numbers: new Int32Array(new Uint8Array(body.subarray(numbersAt)).buffer) } : null;
  } catch {
    return null; // absent, unreadable or damaged: the work is done again
  }
}

/** @throws PolypacaError `IO`, `DISK_FULL`, `NOT_FOUND` (no such folder) */
export async function writeEntry(file: string, key: string, { header, numbers }: CacheEntry<object>): Promise<void> {
  const json = Buffer.from(JSON.stringify({ key, ...header }));
  const padded = Buffer.concat([json, Buffer.alloc(-json.length & 3, " ")]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(padded.length);
  const body = Buffer.concat([length, padded, new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)]);
  await writeFileAtomic(file, Buffer.concat([body, createHash("sha256").update(body).digest()]));
}

function toEntry(files: readonly string[], { examples, bad }: CachedExamples): CacheEntry<Header> {
  const languages = [...new Set(examples.map(({ language }) => language))];
  const header = {
    examples: examples.length,
    languages,
    bad: bad.map((record) => ({ ...record, file: files.indexOf(record.file) })),
  };
  const numbers = new Int32Array(examples.length * rowFields.length + examples.reduce((sum, { inputIds }) => sum + inputIds.length, 0));
  let at = 0;
  for (const { inputIds, labels, place, language, truncated } of examples) {
    const firstLabel = labels === inputIds ? 0 : labels.findIndex((label) => label !== ignoredLabel);
    const masked = firstLabel < 0 ? labels.length : firstLabel;
    numbers.set(
      [
        files.indexOf(place.file),
        place.index,
        place.line,
        place.column,
        languages.indexOf(language),
        masked,
        Number(truncated),
        inputIds.length,
      ],
      at,
    );
    at += rowFields.length;
  }
  for (const { inputIds } of examples) {
    numbers.set(inputIds, at);
    at += inputIds.length;
  }
  return { header, numbers };
}

function toExamples({ header, numbers }: CacheEntry<Header>, files: readonly string[]): CachedExamples {
  const examples: Example[] = [];
  let idsAt = header.examples * rowFields.length;
  for (let row = 0; row < header.examples; row++) {
    const fields = numbers.subarray(row * rowFields.length, (row + 1) * rowFields.length);
    const [file, index, line, column, language, masked, truncated, length] = fields as unknown as readonly [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const inputIds = numbers.subarray(idsAt, idsAt + length);
    idsAt += length;
    const place: RecordPlace = { file: files[file]!, index, line, column };
    examples.push({
      inputIds,
      ...maskedLabels(inputIds, masked),
      place,
      language: header.languages[language]!,
      truncated: truncated === 1,
    });
  }
  return { examples, bad: header.bad.map((record) => ({ ...record, file: files[record.file]! })) };
}
