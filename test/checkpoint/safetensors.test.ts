import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readSafetensors, readSafetensorsHeader, safetensorsHeader } from "../../src/checkpoint/safetensors.js";
import { readTensor } from "../../src/checkpoint/stored-tensor.js";
import { goldens, refusal, safetensorsBytes, temporaryFile } from "./crafted-files.js";

const entry = (begin: number, end: number, shape = [(end - begin) / 4], dtype = "F32") => ({ dtype, shape, data_offsets: [begin, end] });
const read = (bytes: Uint8Array) => readSafetensors(temporaryFile("model.safetensors", bytes));

describe("readSafetensors", () => {
  it("places every tensor of a file that the safetensors library wrote", async () => {
    const path = join(goldens, "05-llama-mha/model.safetensors");
    const { sources, metadata } = await readSafetensors(path);
    expect(metadata).toEqual({ format: "pt" });
    const last = Math.max(...sources.map(({ offset, shape }) => offset + 4 * shape.reduce((a, b) => a * b, 1)));
    expect(last).toBe(readFileSync(path).length);
  });

  it("accepts padding after the header's JSON", async () => {
    const { sources } = await read(safetensorsBytes(`${JSON.stringify({ a: entry(0, 4) })}   `, 4));
    expect(sources.map(({ name }) => name)).toEqual(["a"]);
  });

  it.each<[string, Buffer, RegExp]>([
    ["a file shorter than the header's length", Buffer.from("PK"), /too few/],
    [
      "a header length past the end of the file",
      Buffer.concat([Buffer.from([255, 255, 0, 0, 0, 0, 0, 0]), Buffer.from("{}")]),
      /claims 65535 bytes, but the file has 10/,
    ],
    ["a header length over 100 MB", Buffer.alloc(64, 0x20), /over the format's limit/],
    ["a header that is no JSON", safetensorsBytes("{ not json", 0), /not valid JSON/],
    ["a header that is no object", safetensorsBytes("[]", 0), /not a JSON object/],
    ["data cut off in a tensor", safetensorsBytes({ a: entry(0, 8), b: entry(8, 24) }, 20), /"b" ends at byte 24.*holds 20.*truncated/],
    ["overlapping offsets", safetensorsBytes({ a: entry(0, 8), b: entry(4, 12) }, 12), /"b" overlaps "a"/],
    ["two tensors in one place", safetensorsBytes({ a: entry(0, 8), b: entry(0, 8) }, 8), /"b" overlaps "a"/],
    ["a gap between tensors", safetensorsBytes({ a: entry(0, 4), b: entry(8, 12) }, 12), /4 bytes before "b" belong to no tensor/],
    ["bytes after the last tensor", safetensorsBytes({ a: entry(0, 4) }, 12), /8 bytes at its end/],
    [
      "offsets that run backwards",
      safetensorsBytes({ a: { dtype: "F32", shape: [1], data_offsets: [4, 0] } }, 4),
      /"a" has the offsets \[4,0\]/,
    ],
    ["a negative offset", safetensorsBytes({ a: { dtype: "F32", shape: [1], data_offsets: [-4, 0] } }, 4), /"a" has the offsets/],
    [
      "an offset that no double holds",
      safetensorsBytes('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e300]}}', 4),
      /"a" has the offsets/,
    ],
    ["an element type that does not exist", safetensorsBytes({ a: entry(0, 4, [1], "F33") }, 4), /"a" has the element type "F33"/],
    [
      "an inherited property's name for a type",
      safetensorsBytes({ a: entry(0, 4, [1], "constructor") }, 4),
      /"a" has the element type "constructor"/,
    ],
    ["integers for weights", safetensorsBytes({ a: entry(0, 8, [1], "I64") }, 8), /"a" has elements of type I64.*F32, BF16, F16/],
    [
      "a shape that is no list of sizes",
      safetensorsBytes({ a: { dtype: "F32", shape: [-1], data_offsets: [0, 4] } }, 4),
      /"a" has the shape \[-1\]/,
    ],
    [
      "a shape that does not fill the offsets",
      safetensorsBytes({ a: entry(0, 8, [3]) }, 8),
      /"a" is F32 \[3\], which is 12 bytes, but its offsets hold 8/,
    ],
    [
      "a name that stands twice",
      safetensorsBytes(`{"a":${JSON.stringify(entry(0, 4))},"\\u0061":${JSON.stringify(entry(0, 4))}}`, 4),
      /"a" stands twice/,
    ],
    ["an entry that is no object", safetensorsBytes({ a: 3 }, 0), /entry of "a"/],
    ["metadata that is no map of strings", safetensorsBytes({ __metadata__: { format: 1 } }, 0), /__metadata__/],
  ])("refuses %s, naming the file", async (_what, bytes, message) => {
    const error = await refusal(read(bytes));
    expect(error.code).toBe("BAD_CHECKPOINT");
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^\/.*model\.safetensors: /);
  });

  it("refuses a real file that lost its end", async () => {
    const whole = readFileSync(join(goldens, "01-bloom-h4/model.safetensors"));
    const error = await refusal(read(whole.subarray(0, whole.length - 1)));
    expect(error.message).toMatch(/"transformer\..*truncated/);
  });

  it("says so where there is no file", async () => {
    expect((await refusal(readSafetensors(join(goldens, "none.safetensors")))).code).toBe("NOT_FOUND");
  });

  it("does not take braces and quotes in names for structure", async () => {
    const names = ['a"}', "{b", "c\\"];
    const header = Object.fromEntries(names.map((name, i) => [name, entry(4 * i, 4 * i + 4)]));
    expect((await read(safetensorsBytes(header, 12))).sources.map(({ name }) => name)).toEqual(names);
  });

  it("lets buffers of other types stand where only the header is read", async () => {
    const path = temporaryFile("m.safetensors", safetensorsBytes({ mask: entry(0, 3, [3], "BOOL") }, 3));
    expect((await readSafetensorsHeader(path)).tensors).toMatchObject([{ name: "mask", dtype: "BOOL", shape: [3] }]);
  });
});

describe("safetensorsHeader", () => {
  const tensors = [
    { name: "w", shape: [2, 3], dtype: "F32" },
    { name: "b", shape: [3], dtype: "BF16" },
    { name: "scalar", shape: [], dtype: "F16" },
  ] as const;

  it("lays out what the reader reads back", async () => {
    const { header, offsets, fileBytes } = safetensorsHeader(tensors, { format: "pt", steps: "7" });
    const { sources, metadata } = await read(Buffer.concat([header, Buffer.alloc(fileBytes - header.length)]));
    expect(sources.map(({ name, shape, dtype, offset }) => ({ name, shape, dtype, offset }))).toEqual(
      tensors.map((tensor, i) => ({ ...tensor, offset: offsets[i] })),
    );
    expect(metadata).toEqual({ format: "pt", steps: "7" });
  });

  it("begins the data at a multiple of 8 and says format pt, as transformers asks", () => {
    for (const name of ["a", "ab", "abc", "é"]) {
      const { header } = safetensorsHeader([{ name, shape: [1], dtype: "F32" }]);
      expect(header.length % 8).toBe(0);
      expect(Buffer.from(header).toString()).toContain('"__metadata__":{"format":"pt"}');
    }
  });
});

describe("readTensor", () => {
  const bits16 = (...values: readonly number[]): Buffer => Buffer.from(new Uint16Array(values).buffer);

  it("reads fp16, subnormals and infinities included", async () => {
    const file = temporaryFile("x", bits16(0x3c00, 0xc000, 0x0001, 0x8000, 0x7c00, 0x7bff));
    const { data } = await readTensor({ name: "x", file, offset: 0, dtype: "F16", shape: [6] });
    expect([...data]).toEqual([1, -2, 2 ** -24, -0, Number.POSITIVE_INFINITY, 65504]);
  });

  it("reads bf16", async () => {
    const file = temporaryFile("x", bits16(0x3f80, 0xbf00, 0x0000, 0x4049));
    expect([...(await readTensor({ name: "x", file, offset: 0, dtype: "BF16", shape: [4] })).data]).toEqual([1, -0.5, 0, 3.140625]);
  });

  it("follows strides and offset", async () => {
    const file = temporaryFile("x", Buffer.from(Float32Array.of(9, 1, 2, 3, 4, 5, 6).buffer));
    const { data } = await readTensor({ name: "x", file, offset: 4, dtype: "F32", shape: [3, 2], strides: [1, 3] });
    expect([...data]).toEqual([1, 4, 2, 5, 3, 6]);
  });
});
