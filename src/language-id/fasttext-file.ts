/**
 * The form of fastText's model files (FastText::saveModel of fastText 0.9): little-endian numbers without padding. The program itself does
 * not notice that a file ends early and computes with what it did not read, so the length is checked here.
 */

const magic = 793_712_314; // FASTTEXT_FILEFORMAT_MAGIC_INT32
const supervised = 3; // model_name::sup
const centroidsPerSubspace = 256; // ProductQuantizer::ksub_

/** Bytes that {@link faultOfHead} needs. */
export const headBytes = 64;

/** Why a file with this begin is no fastText classifier; null where it may be one. */
export function faultOfHead(head: Buffer): string | null {
  if (head.length < headBytes || head.readInt32LE(0) !== magic) return "not a fastText model";
  // Behind magic number and version: dim, ws, epoch, minCount, neg, wordNgrams, loss, model.
  return head.readInt32LE(8 + 7 * 4) === supervised ? null : "a fastText model of word vectors, which knows no languages";
}

/** The length in bytes that the model says it has, `Infinity` where the file ends before that can be known. */
export function fastTextLength(bytes: Buffer): number {
  try {
    return new Walk(bytes).model();
  } catch (cause) {
    if (cause instanceof RangeError) return Number.POSITIVE_INFINITY; // read beyond the end
    throw cause;
  }
}

/** Goes over a model part by part; only counts are read, numbers of the matrices are passed over. */
class Walk {
  readonly #bytes: Buffer;
  #at = 8; // magic number, version

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  model(): number {
    this.#at += 12 * 4 + 8; // settings: twelve 32-bit numbers, one double
    this.#dictionary();
    const isInputQuantized = this.#byte() !== 0;
    this.#matrix(isInputQuantized);
    const isOutputQuantized = this.#byte() !== 0;
    this.#matrix(isInputQuantized && isOutputQuantized);
    return this.#at;
  }

  #dictionary(): void {
    const entries = this.#int32();
    this.#at += 2 * 4 + 8; // words, labels, tokens
    const pruned = this.#int64(); // -1: none
    for (let i = 0; i < entries; i++) {
      const end = this.#bytes.indexOf(0, this.#at);
      if (end < 0) throw new RangeError("a word without an end");
      this.#at = end + 1 + 8 + 1; // its count and kind
    }
    this.#at += Math.max(0, pruned) * 8;
  }

  #matrix(isQuantized: boolean): void {
    const hasNorms = isQuantized && this.#byte() !== 0;
    const rows = this.#int64();
    const columns = this.#int64();
    if (!isQuantized) {
      this.#at += rows * columns * 4;
      return;
    }
    const codes = this.#int32();
    this.#at += codes;
    this.#quantizer();
    if (hasNorms) {
      this.#at += rows;
      this.#quantizer();
    }
  }

  #quantizer(): void {
    const dimensions = this.#int32();
    this.#at += 3 * 4 + dimensions * centroidsPerSubspace * 4; // counts and widths of the subspaces, centroids
  }

  #byte(): number {
    return this.#bytes.readUInt8(this.#at++);
  }

  #int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32LE(this.#at - 4);
  }

  #int64(): number {
    this.#at += 8;
    return Number(this.#bytes.readBigInt64LE(this.#at - 8));
  }
}
