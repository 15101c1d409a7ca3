import { describe, expect, it } from "vitest";
import { expectSame } from "../expect-close.js";
import { RandomValues } from "../reference/random-values.js";
import { probe, rounded, scaled, storedDTypes } from "./probe.js";

const pairs = storedDTypes.flatMap((from) => storedDTypes.map((to) => ({ from, to })));

describe.each(pairs)("copies from $from to $to", ({ from, to }) => {
  const random = new RandomValues(9);
  const src = rounded(random.normal(3 * 20_000), from);

  it("convert rounds to nearest, whatever the shape", () => {
    for (const [rows, cols] of [
      [1, 60_000],
      [60_000, 1],
      [300, 200],
    ] as const) {
      expectSame(probe("convert", { rows, cols, from, to, src, padding: 1 }).dst, rounded(src, to));
    }
  });

  it("scaled_copy multiplies before it rounds", () => {
    for (const padding of [0, 3, 8]) {
      const { dst } = probe("scaled_copy", { rows: 300, cols: 200, from, to, src, scale: 0.75, padding });
      expectSame(dst, rounded(Float32Array.from(scaled(src, 0.75)), to));
    }
  });
});

describe("convert to bf16", () => {
  it("rounds ties to even, keeps infinities and NaN", () => {
    const src = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8), 3.4e38, Number.POSITIVE_INFINITY, Number.NaN);
    const { dst } = probe("convert", { rows: 1, cols: 6, from: "fp32", to: "bf16", src });
    expect([...dst!]).toEqual([1, 1 + 2 ** -6, -1, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN]);
  });
});

const selections = storedDTypes.flatMap((dtype) => [
  { dtype, C: 130, padding: 2 },
  { dtype, C: 136, padding: 8 },
]);

describe.each(selections)("row selection in $dtype, C=$C", ({ dtype, C, padding }) => {
  const N = 200;
  const random = new RandomValues(10);
  const x = rounded(random.normal(N * C), dtype);
  const settings = { dtype, C, padding };
  const row = (values: Float32Array, n: number) => values.slice(n * C, (n + 1) * C);

  it("gather_rows takes the rows asked for, in their order", () => {
    const indices = Int32Array.of(199, 0, 7, 7);
    const { y } = probe("gather_rows", { ...settings, x, indices });
    for (const [i, n] of indices.entries()) expectSame(row(y!, i), row(x, n));
  });

  it.each([
    { which: "some rows", list: [0, 5, 6, 199] },
    { which: "one row", list: [3] },
    { which: "no row", list: [] },
    { which: "every second row", list: Array.from({ length: N / 2 }, (_, i) => 2 * i + 1) },
    { which: "every row", list: [...Array(N).keys()] },
  ])("scatter_rows puts $which where it belongs and zeroes the others", ({ list }) => {
    const indices = Int32Array.from(list);
    const y = x.slice(0, indices.length * C);
    const result = probe("scatter_rows", { ...settings, N, y, indices }).x!;
    const expected = new Float32Array(N * C);
    for (const [i, n] of indices.entries()) expected.set(row(y, i), n * C);
    expectSame(result, expected);
  });
});

describe("probe", () => {
  it("refuses unknown ops and arguments of the wrong size by name", () => {
    expect(() => probe("matmul", {})).toThrow(/no operation "matmul"/);
    expect(() => probe("convert", { rows: 2, cols: 2, src: new Float32Array(3) })).toThrow(/"src" must be a Float32Array of 4/);
  });
});
