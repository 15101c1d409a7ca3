import { describe, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { normalizeRows, normalizeRowsBackward } from "../reference/normalized-head.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { probe, rounded, storedDTypes } from "./probe.js";

const cases = storedDTypes.flatMap((dtype) =>
  [
    { V: 1, C: 37 },
    { V: 300, C: 64 },
    { V: 5, C: 1300 },
    { V: 30, C: 64, padding: 8 },
    { V: 3, C: 2312, padding: 0 },
  ].map((shape) => ({ dtype, padding: 3, ...shape })),
);

describe.each(cases)("normalize_rows $dtype V=$V C=$C padding=$padding", ({ dtype, V, C, padding }) => {
  const random = new RandomValues(V + C);
  const w = rounded(random.normal(V * C, 0.3), dtype);
  const dHat = random.normal(V * C);
  const forward = probe("normalize_rows", { dtype, V, C, padding, w });

  it("divides every row by its length", () => {
    const expected = normalizeRows(w, V, C);
    expectClose(forward.wHat, expected.wHat, tolerance("normalizedHead", dtype, "forward"));
    expectClose(forward.inverseNorm, expected.inverseNorm, tolerance("normalizedHead", "fp32", "forward"));
  });

  it("backward assigns dw, and in place gives the same bits", () => {
    const args = { dtype, V, C, padding, wHat: forward.wHat!, inverseNorm: forward.inverseNorm!, dHat };
    const { dw } = probe("normalize_rows_backward", args);
    expectClose(dw, normalizeRowsBackward(dHat, w, V, C), tolerance("normalizedHead", dtype, "backward"));
    expectSame(probe("normalize_rows_backward", { ...args, inPlace: true }).dHat, dw);
  });
});

describe("normalize_rows", () => {
  it("keeps an all-zero row zero: its length counts as 1e-12", () => {
    const { wHat, inverseNorm } = probe("normalize_rows", { V: 2, C: 3, w: Float32Array.of(0, 0, 0, 1e-13, 0, 0) });
    expectSame(wHat, Float32Array.of(0, 0, 0, Math.fround(1e-13) * Math.fround(1e12), 0, 0));
    expectSame(inverseNorm, Float32Array.of(1e12, 1e12));
  });
});
