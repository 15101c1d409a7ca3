/** Training files: JSONL of the chosen records, each read from its source file again and written with its language and id. */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { appendFully, syncAppended } from "../checkpoint/append.js";
import { randomPurpose, randomRank } from "../data/philox.js";
import { visitFields } from "../data/record-ranges.js";
import { PolypacaError } from "../errors.js";
import type { PlannedFile } from "./conditions.js";
import type { LanguageData } from "./language-data.js";
import { languageStream, sortedBy } from "./sampling.js";

type Source = Pick<LanguageData, "language" | "file" | "index" | "version">;

/** The lines of a file, by line: which language, and which of its records. */
export interface LineOrder {
  readonly language: Int32Array;
  readonly record: Int32Array;
}

/**
 * Merged files are shuffled: every record has a random rank of its own, so what changes in one language moves no two lines of the
 * others. A single language stays in its file's order.
 */
export function lineOrder({ parts, isShuffled }: PlannedFile, languages: readonly Pick<Source, "language">[], seed: number): LineOrder {
  const count = parts.reduce((sum, part) => sum + part.length, 0);
  const lines = { language: new Int32Array(count), record: new Int32Array(count) };
  let at = 0;
  for (const [i, part] of parts.entries()) {
    lines.language.fill(i, at, at + part.length);
    lines.record.set(part, at);
    at += part.length;
  }
  if (!isShuffled) return lines;
  const streams = languages.map(({ language }) => languageStream(language));
  const rankOf = (line: number): number => randomRank(seed, randomPurpose.lineOrder, streams[lines.language[line]!]!, lines.record[line]!);
  const order = sortedBy(Float64Array.from({ length: count }, (_, line) => rankOf(line)));
  return { language: order.map((line) => lines.language[line]!), record: order.map((line) => lines.record[line]!) };
}

const chunkBytes = 2 ** 20;

/**
 * Writes and syncs a training file; the event loop runs in between.
 *
 * @returns SHA-256 of what was written
 * @throws PolypacaError `DISK_FULL`, `IO`, also where a source file has changed since it was first read; `CANCELLED`
 */
export async function writeTrainingFile(
  path: string,
  lines: LineOrder,
  sources: readonly Source[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const hash = createHash("sha256");
  const reader = new RecordReader(sources, lines);
  try {
    const descriptor = openSync(path, "w");
    try {
      const chunk = new Chunk();
      const flush = async (): Promise<void> => {
        const bytes = chunk.take();
        hash.update(bytes);
        appendFully(descriptor, bytes, path);
        await setImmediate();
        if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while writing; nothing is left of it.");
      };
      for (let line = 0; line < lines.record.length; line++) {
        reader.appendLine(chunk, lines.language[line]!, lines.record[line]!);
        if (chunk.length >= chunkBytes) await flush();
      }
      await flush();
      syncAppended(descriptor, path);
    } finally {
      closeSync(descriptor);
    }
    reader.assertUnchanged();
  } finally {
    reader.close();
  }
  return hash.digest("hex");
}

/** Bytes to be written, put together. */
class Chunk {
  #bytes = Buffer.allocUnsafe(2 * chunkBytes);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  append(source: Buffer, start = 0, end = source.length): void {
    const length = this.#length + end - start;
    if (length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(2 * length);
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    source.copy(this.#bytes, this.#length, start, end);
    this.#length = length;
  }

  /** What was appended since the last time; valid until the next append. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    return taken;
  }
}

const [idKey, instructionKey, inputKey, outputKey, lineEnd] = ['{"id":', ',"instruction":', ',"input":', ',"output":', "}\n"].map((text) =>
  Buffer.from(text),
) as [Buffer, Buffer, Buffer, Buffer, Buffer];
const emptyText = Buffer.from('""');
const openingQuote = 0x22;

/** Files that most records are taken from are held in memory up to this many bytes together; of others records are read one by one. */
const mostHeldBytes = 400 * 2 ** 20;

const fieldNames = ["id", "instruction", "input", "output"];
const [idField, instructionField, inputField, outputField] = [0, 1, 2, 3];

/** Reads single records of files whose index is known. */
class RecordReader {
  readonly #sources: readonly Source[];
  /** Opened when a record is first asked for. */
  readonly #descriptors: (number | undefined)[];
  /** By source; null: not held. */
  readonly #held: (Buffer | null)[];
  readonly #languageFields: readonly Buffer[];
  readonly #ranges = new Int32Array(2 * fieldNames.length);
  #buffer = Buffer.allocUnsafe(2 ** 16);

  constructor(sources: readonly Source[], lines: LineOrder) {
    this.#sources = sources;
    this.#descriptors = sources.map(() => undefined);
    this.#languageFields = sources.map(({ language }) => Buffer.from(`,"lang":"${language}"`));
    const taken = sources.map(() => 0);
    for (const source of lines.language) taken[source]!++;
    let held = 0;
    this.#held = sources.map(({ index, version }, source) => {
      const isWorthIt = taken[source]! > index.starts.length / 2 && held + version.size <= mostHeldBytes;
      if (isWorthIt) held += version.size;
      return isWorthIt ? this.#bytes(source, 0, version.size, Buffer.allocUnsafe(version.size)) : null;
    });
  }

  /**
   * The record as a line of a training file. Its values are copied as they are written in the source, which takes a tenth of the time
   * that reading and writing them as texts does; that they are texts was checked when the file was indexed.
   */
  appendLine(chunk: Chunk, source: number, record: number): void {
    const { bytes, start, end } = this.#locate(source, record);
    const ranges = this.#ranges.fill(-1);
    const isObject = visitFields(bytes, start, end, (name, from, to) => {
      const field = fieldNames.indexOf(name);
      if (field >= 0) ranges.set([from, to], 2 * field);
    });
    const text = (field: number): boolean => ranges[2 * field]! >= 0 && bytes[ranges[2 * field]!] === openingQuote;
    const append = (field: number): void => chunk.append(bytes, ranges[2 * field], ranges[2 * field + 1]);
    if (!isObject || !text(instructionField) || !text(outputField)) throw changed(this.#sources[source]!.file);
    chunk.append(idKey);
    const hasId = ranges[2 * idField]! >= 0 && bytes[ranges[2 * idField]!] !== 0x6e; // not null
    if (hasId) append(idField);
    else chunk.append(Buffer.from(String(record)));
    chunk.append(this.#languageFields[source]!);
    chunk.append(instructionKey);
    append(instructionField);
    chunk.append(inputKey);
    if (text(inputField)) append(inputField);
    else chunk.append(emptyText);
    chunk.append(outputKey);
    append(outputField);
    chunk.append(lineEnd);
  }

  #locate(source: number, record: number): { readonly bytes: Buffer; readonly start: number; readonly end: number } {
    const { index } = this.#sources[source]!;
    const [start, end] = [index.starts[record]!, index.ends[record]!];
    const held = this.#held[source];
    if (held) return { bytes: held, start, end: Math.min(end, held.length) };
    if (end - start > this.#buffer.length) this.#buffer = Buffer.allocUnsafe(2 * (end - start));
    const bytes = this.#bytes(source, start, end, this.#buffer);
    return { bytes, start: 0, end: bytes.length };
  }

  /** Of the file, into the beginning of `buffer`; fewer where the file ends before. */
  #bytes(source: number, start: number, end: number, buffer: Buffer): Buffer {
    const descriptor = this.#descriptors[source] ?? openSync(this.#sources[source]!.file, "r");
    this.#descriptors[source] = descriptor;
    const length = end - start;
    let read = 0;
    for (let got = -1; read < length && got !== 0; read += got) got = readSync(descriptor, buffer, read, length - read, start + read);
    return buffer.subarray(0, read);
  }

  assertUnchanged(): void {
    for (const [i, descriptor] of this.#descriptors.entries()) {
      if (descriptor === undefined) continue;
      const { file, version } = this.#sources[i]!;
      const { size, mtimeMs } = fstatSync(descriptor);
      if (size !== version.size || mtimeMs !== version.mtimeMs) throw changed(file);
    }
  }

  close(): void {
    for (const descriptor of this.#descriptors) if (descriptor !== undefined) closeSync(descriptor);
  }
}

function changed(file: string): PolypacaError {
  return new PolypacaError("IO", `${file}: has changed while it was being mixed. Run the command again when it is finished.`);
}
