/**
 * The form of fastText's model files (FastText::saveModel of fastText 0.9): little-endian numbers without padding. The program itself
 * trusts what a file says: it computes with what it did not read where a file ends early, and reaches past its matrices where counts
 * disagree. So lengths and counts are checked here, before a model is loaded, without reading the matrices.
 */
import type { FileHandle } from "node:fs/promises";

const magic = 793_712_314; // FASTTEXT_FILEFORMAT_MAGIC_INT32
const versions = [11, 12]; // before 11 there was no magic number
const supervised = 3; // model_name::sup
const centroidsPerSubspace = 256; // ProductQuantizer::ksub_
const entryKinds = { word: 0, label: 1 } as const;
/** Above every count of a label where the tree of the hierarchical softmax is built (HierarchicalSoftmaxLoss::buildTree). */
const largestCount = 1e15;

/** What of a model the rest of the file must agree with. */
interface Settings {
  readonly dimension: number;
  /** Slots of n-grams, which the input matrix has rows for. */
  readonly buckets: number;
}

interface Counts {
  readonly words: number;
  readonly labels: number;
  /** Rows of n-grams in the input matrix. */
  readonly ngrams: number;
}

/** Why the file is no complete, consistent fastText classifier; null where it is one. */
export async function faultOfFastTextFile(file: FileHandle, bytes: number): Promise<string | null> {
  const cursor = new Cursor(file, bytes);
  try {
    const { dimension, buckets } = await readSettings(cursor);
    const { words, labels, ngrams } = await readDictionary(cursor, buckets);
    const isInputQuantized = await readFlag(cursor);
    await checkMatrix(cursor, "input", { isQuantized: isInputQuantized, columns: dimension, leastRows: words + ngrams });
    const isOutputQuantized = await readFlag(cursor);
    const output = { isQuantized: isInputQuantized && isOutputQuantized, columns: dimension, leastRows: labels };
    await checkMatrix(cursor, "output", output);
    return null;
  } catch (cause) {
    if (cause instanceof Fault) return cause.message;
    throw cause;
  }
}

class Fault extends Error {}

async function readSettings(cursor: Cursor): Promise<Settings> {
  if (cursor.bytes < 8) throw new Fault("not a fastText model");
  await cursor.need(8);
  if (cursor.int32() !== magic) throw new Fault("not a fastText model");
  const version = cursor.int32();
  if (!versions.includes(version)) throw new Fault(`a fastText model of version ${version}, where 11 and 12 are known`);
  await cursor.need(12 * 4 + 8);
  const dimension = cursor.int32();
  cursor.skip(4 * 4); // ws, epoch, minCount, neg
  const wordNgrams = cursor.int32();
  cursor.skip(4); // loss: an unknown one is refused by fastText
  if (cursor.int32() !== supervised) throw new Fault("a fastText model of word vectors, which knows no languages");
  const buckets = cursor.int32();
  cursor.skip(4); // minn
  const longestNgram = cursor.int32();
  cursor.skip(4 + 8); // lrUpdateRate, t
  const needsBuckets = wordNgrams > 1 || (longestNgram > 0 && version > 11); // version 11 had no n-grams of characters
  if (dimension <= 0 || buckets < 0 || (needsBuckets && buckets === 0)) throw corrupt(`dimension ${dimension}, ${buckets} buckets`);
  return { dimension, buckets };
}

async function readDictionary(cursor: Cursor, buckets: number): Promise<Counts> {
  await cursor.need(3 * 4 + 2 * 8);
  const [entries, words, labels] = [cursor.int32(), cursor.int32(), cursor.int32()];
  cursor.skip(8); // tokens
  const pruned = cursor.int64(); // -1: all n-grams were kept
  if (words < 0 || labels <= 0 || entries !== words + labels) throw corrupt(`${entries} entries, ${words} words, ${labels} labels`);
  for (let entry = 0; entry < entries; entry++) {
    await cursor.skipText();
    await cursor.need(8 + 1);
    const [count, kind] = [cursor.int64(), cursor.byte()];
    const expected = entry < words ? entryKinds.word : entryKinds.label;
    if (kind !== expected || count < 0 || count >= largestCount) throw corrupt(`entry ${entry} of its dictionary`);
  }
  if (pruned < 0) return { words, labels, ngrams: buckets };
  let ngrams = 0;
  for (let kept = 0; kept < pruned; kept++) {
    await cursor.need(8);
    cursor.skip(4); // the bucket
    const row = cursor.int32();
    if (row < 0) throw corrupt(`row ${row} of an n-gram`);
    ngrams = Math.max(ngrams, row + 1);
  }
  return { words, labels, ngrams };
}

interface ExpectedMatrix {
  readonly isQuantized: boolean;
  readonly columns: number;
  readonly leastRows: number;
}

async function checkMatrix(cursor: Cursor, name: string, { isQuantized, columns, leastRows }: ExpectedMatrix): Promise<void> {
  const hasNorms = isQuantized && (await readFlag(cursor));
  await cursor.need(2 * 8);
  const [rows, found] = [cursor.int64(), cursor.int64()];
  if (found !== columns || rows < leastRows) {
    throw corrupt(`${name} matrix of ${rows} x ${found}, at least ${leastRows} x ${columns} expected`);
  }
  if (!isQuantized) {
    cursor.skip(rows * columns * 4);
    return;
  }
  await cursor.need(4);
  const codes = cursor.int32();
  cursor.skip(codes);
  const subspaces = await checkQuantizer(cursor, columns);
  if (codes !== rows * subspaces) throw corrupt(`${codes} codes of its ${name} matrix for ${rows} rows of ${subspaces}`);
  if (!hasNorms) return;
  cursor.skip(rows); // a code for each
  await checkQuantizer(cursor, 1);
}

/** @returns the number of its subspaces */
async function checkQuantizer(cursor: Cursor, columns: number): Promise<number> {
  await cursor.need(4 * 4);
  const [dimension, subspaces, width, lastWidth] = [cursor.int32(), cursor.int32(), cursor.int32(), cursor.int32()];
  const covered = (subspaces - 1) * width + lastWidth;
  if (dimension !== columns || covered !== columns || subspaces < 1 || width < 1 || lastWidth < 1) {
    throw corrupt(`a quantizer of ${subspaces} x ${width} and ${lastWidth} for ${columns} columns`);
  }
  cursor.skip(dimension * centroidsPerSubspace * 4);
  return subspaces;
}

async function readFlag(cursor: Cursor): Promise<boolean> {
  await cursor.need(1);
  return cursor.byte() !== 0;
}

function corrupt(what: string): Fault {
  return new Fault(`a fastText model that contradicts itself (${what})`);
}

const windowBytes = 1 << 20;
const longestText = windowBytes;

/** Reads a file forward through a window; what is skipped is not read. */
class Cursor {
  readonly bytes: number;
  readonly #file: FileHandle;
  #window = Buffer.alloc(0);
  /** Where in the window the next byte is. */
  #at = 0;
  /** Where in the file the window begins. */
  #start = 0;

  constructor(file: FileHandle, bytes: number) {
    this.#file = file;
    this.bytes = bytes;
  }

  /** Makes sure that the next `count` bytes can be read. */
  async need(count: number): Promise<void> {
    if (this.#at + count <= this.#window.length) return;
    const position = this.#start + this.#at;
    if (position + count > this.bytes) throw this.#cutOff(position + count);
    const window = Buffer.alloc(Math.min(this.bytes - position, Math.max(count, windowBytes)));
    const { bytesRead } = await this.#file.read(window, 0, window.length, position);
    if (bytesRead < count) throw this.#cutOff(position + count); // it has become shorter
    this.#window = window.subarray(0, bytesRead);
    [this.#start, this.#at] = [position, 0];
  }

  byte(): number {
    return this.#window.readUInt8(this.#at++);
  }

  int32(): number {
    this.#at += 4;
    return this.#window.readInt32LE(this.#at - 4);
  }

  int64(): number {
    this.#at += 8;
    return Number(this.#window.readBigInt64LE(this.#at - 8));
  }

  skip(count: number): void {
    const end = this.#start + this.#at + count;
    if (count < 0 || end > this.bytes) throw this.#cutOff(end);
    this.#at += count;
  }

  /** Skips a text and the NUL behind it. */
  async skipText(): Promise<void> {
    let end = this.#window.indexOf(0, this.#at);
    if (end < 0) {
      const left = this.bytes - this.#start - this.#at;
      await this.need(Math.min(left, longestText));
      end = this.#window.indexOf(0, this.#at);
      if (end < 0) throw left > longestText ? corrupt("a word of more than 1 MiB") : this.#cutOff(this.bytes + 1);
    }
    this.#at = end + 1;
  }

  #cutOff(end: number): Fault {
    return new Fault(`cut off at ${this.bytes} bytes, of ${end} at the least`);
  }
}
