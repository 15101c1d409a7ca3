import { type FileHandle, open, readFile } from "node:fs/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { faultOfFastTextFile } from "../../src/language-id/fasttext-file.js";
import { bundledModelFile } from "../../src/language-id/index.js";
import { dataFile } from "../data/data-folder.js";

const int32 = (...values: readonly number[]): Buffer => Buffer.from(Int32Array.from(values).buffer);
const int64 = (...values: readonly number[]): Buffer => Buffer.from(BigInt64Array.from(values, BigInt).buffer);
const entry = (word: string, kind: number, count = 5): Buffer =>
  Buffer.concat([Buffer.from(`${word}\0`), int64(count), Buffer.from([kind])]);
const matrix = (rows: number, columns: number): Buffer => Buffer.concat([int64(rows, columns), Buffer.alloc(rows * columns * 4, 1)]);

const parts = {
  magic: int32(793_712_314),
  version: int32(12),
  /** dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate. */
  settings: int32(4, 5, 5, 1, 5, 1, 3, 3, 2, 2, 4, 100),
  t: Buffer.from(Float64Array.of(1e-4).buffer),
  /** Entries, words, labels; tokens, n-grams kept (-1: all). */
  counts: Buffer.concat([int32(3, 2, 1), int64(15, -1)]),
  entries: Buffer.concat([entry("hello", 0), entry("wörld", 0), entry("__label__en", 1)]),
  isQuantized: Buffer.from([0]),
  input: matrix(4, 4),
  isOutputQuantized: Buffer.from([0]),
  output: matrix(1, 4),
};

/** A model whose matrices are not quantized, of two words, one label, four dimensions and two buckets. */
function denseModel(changes: Partial<typeof parts> = {}): Buffer {
  return Buffer.concat(Object.values({ ...parts, ...changes }));
}

async function faultOf(bytes: Uint8Array): Promise<string | null> {
  const handle = await open(await dataFile("model.bin", bytes));
  onTestFinished(() => handle.close());
  return faultOfFastTextFile(handle, bytes.length);
}

/** The same, from memory: files of every length are quickly made. */
async function faultOfCut(bytes: Buffer, length: number): Promise<string | null> {
  const read = async (into: Buffer, _: number, count: number, position: number) => ({
    bytesRead: bytes.subarray(0, length).copy(into, 0, position, position + count),
  });
  return faultOfFastTextFile({ read } as unknown as FileHandle, length);
}

describe("faultOfFastTextFile", () => {
  it("finds none in lid.176.ftz, whose input is quantized, and in a model that is not", async () => {
    expect(await faultOf(await readFile(bundledModelFile()))).toBeNull();
    expect(await faultOf(denseModel())).toBeNull();
  });

  it("finds every cut", async () => {
    const dense = denseModel();
    for (let length = 8; length < dense.length; length++) expect(await faultOfCut(dense, length), `${length}`).toMatch(/^cut off at /);
    const quantized = await readFile(bundledModelFile());
    for (let length = 64; length < quantized.length; length += 9973) {
      expect(await faultOfCut(quantized, length)).toMatch(new RegExp(`^cut off at ${length} bytes, of \\d+ at the least`));
    }
    expect(await faultOfCut(quantized, quantized.length - 1)).toMatch(/^cut off/);
    expect(await faultOfCut(quantized, quantized.length)).toBeNull();
  });

  it.each<[string, Partial<typeof parts>, RegExp]>([
    ["another magic number", { magic: int32(1) }, /^not a fastText model$/],
    ["a version to come", { version: int32(13) }, /version 13, where 11 and 12 are known/],
    ["word vectors", { settings: int32(4, 5, 5, 1, 5, 1, 3, 2, 2, 2, 4, 100) }, /word vectors/],
    ["no dimensions", { settings: int32(0, 5, 5, 1, 5, 1, 3, 3, 2, 2, 4, 100) }, /contradicts itself \(dimension 0/],
    ["n-grams without buckets, a division by zero", { settings: int32(4, 5, 5, 1, 5, 1, 3, 3, 0, 2, 4, 100) }, /0 buckets/],
    ["more entries than words and labels", { counts: Buffer.concat([int32(4, 2, 1), int64(15, -1)]) }, /4 entries, 2 words, 1 labels/],
    ["no labels", { counts: Buffer.concat([int32(2, 2, 0), int64(15, -1)]) }, /0 labels/],
    ["a word among the labels", { entries: Buffer.concat([entry("a", 0), entry("b", 0), entry("c", 0)]) }, /entry 2 of its dictionary/],
    ["a negative count", { entries: Buffer.concat([entry("a", 0), entry("b", 0), entry("c", 1, -1)]) }, /entry 2 of its dictionary/],
    ["an input matrix without rows for the n-grams", { input: matrix(3, 4) }, /input matrix of 3 x 4, at least 4 x 4/],
    ["an output matrix of other dimensions", { output: matrix(1, 5) }, /output matrix of 1 x 5/],
    ["a row count beyond all files", { input: int64(2 ** 60, 4) }, /cut off/],
    [
      "n-grams kept that have no rows",
      { counts: Buffer.concat([int32(3, 2, 1), int64(15, 1)]), isQuantized: Buffer.concat([int32(0, 7), Buffer.from([0])]) },
      /at least 10 x 4/,
    ],
    ["more n-grams kept than the file has bytes", { counts: Buffer.concat([int32(3, 2, 1), int64(15, 2 ** 40)]) }, /cut off/],
    ["a word without an end", { entries: Buffer.alloc(3 << 20, "a") }, /a word of more than 1 MiB/],
  ])("finds %s", async (_, changes, fault) => {
    expect(await faultOf(denseModel(changes))).toMatch(fault);
  });

  it("finds a quantizer that does not cover its matrix", async () => {
    const quantized = await readFile(bundledModelFile());
    // lid.176.ftz: 16 dimensions in 8 subspaces of 2. The first quantizer has its counts in front of the centroids.
    const at = quantized.indexOf(int32(16, 8, 2, 2));
    expect(at).toBeGreaterThan(0);
    int32(16, 8, 2, 9).copy(quantized, at);
    expect(await faultOf(quantized)).toMatch(/a quantizer of 8 x 2 and 9 for 16 columns/);
  });
});
