import { describe, it } from "vitest";
import type { ComputeDType } from "../../src/native/addon-types.js";
import { expectClose, expectSame } from "../expect-close.js";
import { type AttentionShape, alibiSlopes, attentionBackward, attentionForward, positionsOf } from "../reference/attention.js";
import { RandomValues } from "../reference/random-values.js";
import { ropeBackward, ropeForward, ropeTables } from "../reference/rope.js";
import { tolerance } from "../tolerances.js";
import { computeDTypes, probe, rounded } from "./probe.js";

type Layout = "separate" | "concatenated" | "interleaved";

interface Setting {
  readonly name: string;
  readonly layout: Layout;
  readonly sequenceLengths: readonly number[];
  readonly H: number;
  readonly G: number;
  readonly D: number;
  readonly rotaryDim: number;
  readonly alibi: boolean;
  /** Spare columns per row: with D, they decide how wide CUDA's accesses can be. */
  readonly padding?: number;
}

const base = { layout: "separate", sequenceLengths: [1], H: 1, G: 1, D: 8, rotaryDim: 0, alibi: false } as const;
const settings: readonly Setting[] = [
  { ...base, name: "a single token" },
  { ...base, name: "several sequences, one of one token", sequenceLengths: [5, 1, 17, 9], H: 3, G: 3, D: 16 },
  { ...base, name: "a sequence longer than any block", sequenceLengths: [300], H: 2, G: 2, D: 32 },
  { ...base, name: "odd head dimension", sequenceLengths: [13, 4], H: 5, G: 5, D: 12, layout: "concatenated" },
  { ...base, name: "BLOOM: interleaved with ALiBi", sequenceLengths: [20, 70], H: 6, G: 6, D: 8, layout: "interleaved", alibi: true },
  {
    ...base,
    name: "GPT-NeoX: interleaved with partial RoPE",
    sequenceLengths: [33, 5],
    H: 4,
    G: 4,
    D: 16,
    layout: "interleaved",
    rotaryDim: 4,
  },
  { ...base, name: "LLaMA: grouped queries with RoPE", sequenceLengths: [40, 3], H: 8, G: 2, D: 8, rotaryDim: 8 },
  { ...base, name: "multi-query", sequenceLengths: [19], H: 7, G: 1, D: 64, rotaryDim: 64 },
  {
    ...base,
    name: "Baichuan-2: concatenated with RoPE",
    sequenceLengths: [65, 66],
    H: 4,
    G: 4,
    D: 12,
    layout: "concatenated",
    rotaryDim: 12,
  },
  { ...base, name: "head dimension 128", sequenceLengths: [50, 90], H: 2, G: 1, D: 128, rotaryDim: 128 },
  { ...base, name: "lengths about a tile's", sequenceLengths: [1, 2, 63, 64, 65, 130], H: 2, G: 1, D: 32, rotaryDim: 32, padding: 8 },
  { ...base, name: "many sequences", sequenceLengths: Array.from({ length: 70 }, (_, i) => (i * 7) % 5), D: 8, rotaryDim: 6, padding: 8 },
  { ...base, name: "unused sequences at the end", sequenceLengths: [5, 70, 0, 0, 0], D: 16, alibi: true, padding: 0 },
  {
    ...base,
    name: "head dimension 64, BLOOM",
    sequenceLengths: [65, 2],
    H: 3,
    G: 3,
    D: 64,
    layout: "interleaved",
    alibi: true,
    padding: 0,
  },
  {
    ...base,
    name: "head dimension 64, Pythia",
    sequenceLengths: [66],
    H: 2,
    G: 2,
    D: 64,
    layout: "interleaved",
    rotaryDim: 16,
    padding: 8,
  },
  { ...base, name: "head dimension 80", sequenceLengths: [70], H: 2, G: 2, D: 80, layout: "interleaved", rotaryDim: 20, padding: 0 },
  { ...base, name: "head dimension 96", sequenceLengths: [66, 1], H: 4, G: 2, D: 96, rotaryDim: 96, padding: 16 },
  { ...base, name: "head dimension 112", sequenceLengths: [67], H: 2, G: 1, D: 112, layout: "concatenated", alibi: true, padding: 8 },
  { ...base, name: "head dimension 128, wide rows", sequenceLengths: [65, 30], H: 4, G: 2, D: 128, rotaryDim: 128, padding: 0 },
  {
    ...base,
    name: "head dimension 256, Pythia",
    sequenceLengths: [63, 70],
    H: 1,
    G: 1,
    D: 256,
    layout: "interleaved",
    rotaryDim: 64,
    padding: 0,
  },
  { ...base, name: "head dimension 256, all of it rotated", sequenceLengths: [66], H: 2, G: 1, D: 256, rotaryDim: 256, padding: 8 },
  { ...base, name: "head dimension 40", sequenceLengths: [35, 66], H: 3, G: 3, D: 40, rotaryDim: 10, padding: 8 },
  {
    ...base,
    name: "head dimension 100, OpenLLaMA",
    sequenceLengths: [66, 3],
    H: 2,
    G: 2,
    D: 100,
    layout: "concatenated",
    rotaryDim: 100,
    padding: 4,
  },
  { ...base, name: "rows on odd elements", sequenceLengths: [20, 66], H: 3, G: 1, D: 37, rotaryDim: 10, padding: 1 },
  { ...base, name: "narrow rows of head dimension 200", sequenceLengths: [9, 66], D: 200, rotaryDim: 8, padding: 2 },
];
const cases = computeDTypes.flatMap((dtype) => settings.map((setting) => ({ dtype, ...setting })));

const theta = 10000;

interface Vectors {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
}

/** q [N, H, D], k, v [N, G, D] to the rows that the layout has, and back. */
function packed({ q, k, v }: Vectors, { layout, H, G, D }: Setting, prefix = ""): Record<string, Float32Array> {
  if (layout === "separate") return { [`${prefix}q`]: q, [`${prefix}k`]: k, [`${prefix}v`]: v };
  const width = (H + 2 * G) * D;
  const rows = new Float32Array((q.length / (H * D)) * width);
  forEachHead({ layout, H, G, D }, (part, head, column) => {
    const source = { q, k, v }[part];
    const heads = part === "q" ? H : G;
    for (let n = 0; n * width < rows.length; n++) {
      rows.set(source.subarray((n * heads + head) * D, (n * heads + head + 1) * D), n * width + column);
    }
  });
  return { [`${prefix}qkv`]: rows };
}

function unpacked(result: Record<string, Float32Array>, { layout, H, G, D }: Setting, prefix = ""): Vectors {
  if (layout === "separate") return { q: result[`${prefix}q`]!, k: result[`${prefix}k`]!, v: result[`${prefix}v`]! };
  const rows = result[`${prefix}qkv`]!;
  const width = (H + 2 * G) * D;
  const N = rows.length / width;
  const vectors = { q: new Float32Array(N * H * D), k: new Float32Array(N * G * D), v: new Float32Array(N * G * D) };
  forEachHead({ layout, H, G, D }, (part, head, column) => {
    const heads = part === "q" ? H : G;
    for (let n = 0; n < N; n++) {
      vectors[part].set(rows.subarray(n * width + column, n * width + column + D), (n * heads + head) * D);
    }
  });
  return vectors;
}

function forEachHead(
  { layout, H, G, D }: Pick<Setting, "layout" | "H" | "G" | "D">,
  visit: (part: "q" | "k" | "v", head: number, column: number) => void,
): void {
  const columns =
    layout === "interleaved"
      ? { q: (head: number) => 3 * head, k: (head: number) => 3 * head + 1, v: (head: number) => 3 * head + 2 }
      : { q: (head: number) => head, k: (head: number) => H + head, v: (head: number) => H + G + head };
  for (const part of ["q", "k", "v"] as const) {
    for (let head = 0; head < (part === "q" ? H : G); head++) visit(part, head, columns[part](head) * D);
  }
}

function referenceShape({ sequenceLengths, H, G, D, alibi }: Setting): AttentionShape {
  const shape = { sequenceLengths, H, G, D, scale: 1 / Math.sqrt(D) };
  return alibi ? { ...shape, alibiSlopes: alibiSlopes(H) } : shape;
}

function nativeArguments(setting: Setting, dtype: ComputeDType) {
  const { layout, sequenceLengths, H, G, D, rotaryDim, alibi, padding = 2 } = setting;
  const tables = rotaryDim > 0 ? ropeTables(512, rotaryDim, theta) : {};
  const slopes = alibi ? { alibiSlopes: Float32Array.from(alibiSlopes(H)) } : {};
  const shape = { H, G, D, rotaryDim, scale: 1 / Math.sqrt(D), layout, dtype };
  return { ...shape, sequenceLengths: Int32Array.from(sequenceLengths), padding, ...tables, ...slopes };
}

function randomVectors(setting: Setting, dtype: ComputeDType, N: number): Vectors & { dout: Float32Array } {
  const random = new RandomValues(N * 31 + setting.H * 7 + setting.D);
  const draw = (heads: number) => rounded(random.normal(N * heads * setting.D), dtype);
  return { q: draw(setting.H), k: draw(setting.G), v: draw(setting.G), dout: draw(setting.H) };
}

describe.each(cases)("attention $dtype: $name", (setting) => {
  const { dtype, H, G, D, rotaryDim } = setting;
  const positions = positionsOf(setting.sequenceLengths);
  const N = positions.length;
  const shape = referenceShape(setting);
  const vectors = randomVectors(setting, dtype, N);
  const args = nativeArguments(setting, dtype);
  const rope = (heads: number) => ({ heads, headDim: D, rotaryDim, theta });
  const forward = probe("attention_forward", { ...args, ...packed(vectors, setting) });
  const left = unpacked(forward, setting);
  const longest = Math.max(...setting.sequenceLengths);

  it("forward assigns the output and lse", () => {
    const q = ropeForward(vectors.q, positions, rope(H));
    const k = ropeForward(vectors.k, positions, rope(G));
    const expected = attentionForward(q, k, vectors.v, shape);
    expectClose(forward.out, expected.out, tolerance("attention", dtype, "forward", D));
    expectClose(forward.lse, expected.lse, tolerance("logSumExp", dtype, "forward"));
    expectSame(left.v, vectors.v);
  });

  it("backward assigns the gradients of the unrotated q and k, and of v", () => {
    const dout = vectors.dout;
    const result = probe("attention_backward", { ...args, ...packed(left, setting), dout, out: forward.out!, lse: forward.lse! });
    const gradients = unpacked(result, setting, "d");
    const q = rotatedAsLeft(left.q, vectors.q, positions, rope(H));
    const k = rotatedAsLeft(left.k, vectors.k, positions, rope(G));
    const expected = attentionBackward(dout, q, k, vectors.v, shape);
    const allowed = tolerance("attention", dtype, "backward", Math.max(longest, D));
    const scale = setting.sequenceLengths.every((length) => length === 1) ? 1 : 0; // softmax over one score has no gradient
    expectClose(gradients.q, ropeBackward(expected.dq, positions, rope(H)), allowed, scale);
    expectClose(gradients.k, ropeBackward(expected.dk, positions, rope(G)), allowed, scale);
    expectClose(gradients.v, expected.dv, allowed);
  });
});

/** The forward pass may rotate in place or not; either way the reference starts from the rotated values, as rounded. */
function rotatedAsLeft(left: Float32Array, given: Float32Array, positions: Int32Array, shape: Parameters<typeof ropeForward>[2]) {
  return left.every((value, i) => value === given[i]) ? ropeForward(given, positions, shape) : left;
}

describe.each(computeDTypes)("attention_decode in %s", (dtype) => {
  const maxLength = 24;
  const kinds: readonly Setting[] = settings.filter(({ name }) => /BLOOM|NeoX|LLaMA|Baichuan/.test(name));

  /** Cuts tokens [from, to) out of vectors with `heads` heads. */
  const cut = (values: Float32Array, heads: number, D: number, from: number, to: number) => values.slice(from * heads * D, to * heads * D);

  it.each(kinds)("continues a prompt as if it had been one sequence: $name", (setting) => {
    const { H, G, D, rotaryDim } = setting;
    const T = 11; // prompt of 9, then two decoded tokens
    const whole: Setting = { ...setting, sequenceLengths: [T] };
    const vectors = randomVectors(whole, dtype, T);
    const positions = positionsOf([T]);
    const rope = (heads: number) => ({ heads, headDim: D, rotaryDim, theta });
    const expected = attentionForward(
      ropeForward(vectors.q, positions, rope(H)),
      ropeForward(vectors.k, positions, rope(G)),
      vectors.v,
      referenceShape(whole),
    ).out;
    const part = (from: number, to: number): Vectors => ({
      q: cut(vectors.q, H, D, from, to),
      k: cut(vectors.k, G, D, from, to),
      v: cut(vectors.v, G, D, from, to),
    });
    const args = { ...nativeArguments({ ...setting, sequenceLengths: [9] }, dtype), cacheRowCount: 3, maxLength };
    const prompt = probe("attention_forward", { ...args, ...packed(part(0, 9), setting) });
    const left = packed(unpacked(prompt, setting), setting);
    let { kCache, vCache } = probe("cache_prompt", { ...args, ...left, N: 9, first: 0, T: 9, row: 2 });
    for (const t of [9, 10]) {
      const step = probe("attention_decode", {
        ...args,
        ...packed(part(t, t + 1), setting),
        kCache: kCache!,
        vCache: vCache!,
        source: new Int32Array(maxLength).fill(2),
        cacheRows: Int32Array.of(2),
        positions: Int32Array.of(t),
      });
      expectClose(step.out, expected.slice(t * H * D, (t + 1) * H * D), tolerance("attention", dtype, "forward", D));
      ({ kCache, vCache } = step);
    }
  });

  // On CUDA: tiles of 64 tokens, groups beyond 16 queries, and with a maximum of 300 tokens a context in several shares.
  const sizes = [
    { name: "a short context", H: 4, G: 2, D: 8, maxLength, positions: [5, 0, 3] },
    { name: "a long context", H: 4, G: 2, D: 64, maxLength: 300, positions: [299, 64, 130] },
    { name: "a large group", H: 20, G: 1, D: 40, maxLength: 300, positions: [127, 128, 200] },
    { name: "a wide head", H: 2, G: 2, D: 256, maxLength: 70, positions: [69, 10, 63] },
    { name: "narrow rows", H: 3, G: 1, D: 100, maxLength: 140, positions: [139, 1, 66] },
  ];

  it.each(sizes)("reads each position from the cache row that `source` names, and its own from its own row: $name", (size) => {
    const { H, G, D, maxLength } = size;
    const [rows, cacheRowCount] = [3, 6];
    const random = new RandomValues(77);
    const draw = (count: number) => rounded(random.normal(count), dtype);
    const [kCache, vCache] = [draw(cacheRowCount * maxLength * G * D), draw(cacheRowCount * maxLength * G * D)];
    const [q, k, v] = [draw(rows * H * D), draw(rows * G * D), draw(rows * G * D)];
    const cacheRows = Int32Array.of(4, 5, 3);
    const positions = Int32Array.from(size.positions);
    // Rows 0 to 2 are nobody's own; 3 stands for the own one.
    const source = Int32Array.from({ length: rows * maxLength }, (_, i) => {
      const row = random.integer(4);
      return row === 3 ? cacheRows[Math.floor(i / maxLength)]! : row;
    });
    const scale = 1 / Math.sqrt(D);
    const args = { dtype, H, G, D, scale, cacheRowCount, maxLength };
    const { out } = probe("attention_decode", { ...args, q, k, v, kCache, vCache, source, cacheRows, positions });
    for (let r = 0; r < rows; r++) {
      const T = positions[r]! + 1;
      const gathered = (cache: Float32Array, own: Float32Array) =>
        Float64Array.from({ length: T * G * D }, (_, i) => {
          const t = Math.floor(i / (G * D));
          if (t === T - 1) return own[r * G * D + (i % (G * D))]!;
          return cache[(source[r * maxLength + t]! * maxLength + t) * G * D + (i % (G * D))]!;
        });
      const queries = new Float64Array(T * H * D);
      queries.set(q.subarray(r * H * D, (r + 1) * H * D), (T - 1) * H * D);
      const expected = attentionForward(queries, gathered(kCache, k), gathered(vCache, v), { sequenceLengths: [T], H, G, D, scale }).out;
      expectClose(out!.slice(r * H * D, (r + 1) * H * D), expected.slice((T - 1) * H * D), tolerance("attention", dtype, "forward", D));
    }
  });
});
