import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { fastTextLength, faultOfHead } from "../../src/language-id/fasttext-file.js";

const bundled = join(
  dirname(createRequire(import.meta.url).resolve("fasttext.wasm.js")),
  "../models/language-identification/assets/lid.176.ftz",
);

/** A model whose matrices are not quantized, of two words, one label, four dimensions and two buckets. */
function denseModel(): Buffer {
  const int32 = (...values: readonly number[]): Buffer => Buffer.from(Int32Array.from(values).buffer);
  const int64 = (...values: readonly number[]): Buffer => Buffer.from(BigInt64Array.from(values, BigInt).buffer);
  const entry = (word: string, kind: number): Buffer => Buffer.concat([Buffer.from(`${word}\0`), int64(5), Buffer.from([kind])]);
  const matrix = (rows: number, columns: number): Buffer => Buffer.concat([int64(rows, columns), Buffer.alloc(rows * columns * 4, 1)]);
  return Buffer.concat([
    int32(793_712_314, 12),
    int32(4, 5, 5, 1, 5, 1, 3, 3, 2, 2, 4, 100), // settings; the eighth, 3, is a supervised model
    Buffer.from(Float64Array.of(1e-4).buffer),
    int32(3, 2, 1),
    int64(15, -1),
    ...[entry("hello", 0), entry("wörld", 0), entry("__label__en", 1)],
    Buffer.from([0]),
    matrix(4, 4),
    Buffer.from([0]),
    matrix(1, 4),
  ]);
}

describe("fastTextLength", () => {
  it("is the length of lid.176.ftz, whose input is quantized", async () => {
    const bytes = await readFile(bundled);
    expect(faultOfHead(bytes)).toBeNull();
    expect(fastTextLength(bytes)).toBe(bytes.length);
  });

  it("is the length of a model that is not quantized", () => {
    const bytes = denseModel();
    expect(faultOfHead(bytes)).toBeNull();
    expect(fastTextLength(bytes)).toBe(bytes.length);
  });

  it("is more than the file has wherever it is cut off", async () => {
    const dense = denseModel();
    for (let length = 64; length < dense.length; length++) expect(fastTextLength(dense.subarray(0, length))).toBeGreaterThan(length);
    const quantized = await readFile(bundled);
    for (let length = 64; length < quantized.length; length += 9973) {
      expect(fastTextLength(quantized.subarray(0, length))).toBeGreaterThan(length);
    }
    expect(fastTextLength(quantized.subarray(0, -1))).toBe(quantized.length);
  });
});
