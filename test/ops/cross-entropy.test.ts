import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { crossEntropy } from "../reference/cross-entropy.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { probe, probeRepeatedly, rounded, scaled, storedDTypes } from "./probe.js";

const cases = storedDTypes.flatMap((dtype) =>
  [
    { rows: 1, V: 1 },
    { rows: 1, V: 37 },
    { rows: 9, V: 2049 },
    { rows: 5, V: 2049, padding: 0 },
    { rows: 2, V: 2056, padding: 8 },
    { rows: 2, V: 250_880 },
  ].map((shape) => ({ dtype, padding: 1, ...shape })),
);

describe.each(cases)("cross_entropy $dtype rows=$rows V=$V padding=$padding", ({ dtype, rows, V, padding }) => {
  const random = new RandomValues(rows + V);
  const logits = rounded(random.normal(rows * V, 4), dtype);
  const targets = Int32Array.from({ length: rows }, () => random.integer(V));
  const gradScale = 1 / 8; // a power of two: scaling changes no digit
  const expected = crossEntropy(logits, targets, V);
  const settings = { dtype, V, padding, logits, targets, gradScale };

  it("gives the loss and leaves the logits alone without a gradient", () => {
    const result = probe("cross_entropy", { ...settings, withGradient: false });
    expectClose(result.losses, expected.losses, tolerance("crossEntropy", dtype, "forward"));
    expectSame(result.logits, logits);
  });

  it("turns the logits into their scaled gradient in place", () => {
    const result = probe("cross_entropy", settings);
    expectClose(result.losses, expected.losses, tolerance("crossEntropy", dtype, "forward"));
    expectClose(result.logits, scaled(expected.dlogits, gradScale), tolerance("crossEntropy", dtype, "backward"));
  });
});

describe("cross_entropy", () => {
  it("gives loss 0 and gradient 0 to rows with a negative target, and to all of them at once", () => {
    const V = 11;
    const logits = new RandomValues(5).normal(3 * V);
    const some = Int32Array.of(2, -100, 10);
    const expected = crossEntropy(logits, some, V);
    const result = probe("cross_entropy", { V, logits, targets: some });
    expect(result.losses![1]).toBe(0);
    expectClose(result.logits, expected.dlogits, tolerance("crossEntropy", "fp32", "backward"));
    const none = probe("cross_entropy", { V, logits, targets: Int32Array.of(-100, -100, -100) });
    expect([...none.losses!, ...none.logits!].every((value) => value === 0)).toBe(true);
  });

  it("does not overflow on logits of a thousand, wherever the maximum is", () => {
    const V = 5000; // more than two blocks of the row
    const logits = new RandomValues(6).normal(3 * V, 1, 1000);
    const targets = Int32Array.of(0, 2500, 4999);
    for (const [r, target] of targets.entries()) logits[r * V + target] = 1100;
    const { losses } = probe("cross_entropy", { V, logits, targets });
    for (const loss of losses!) expect(loss).toBeCloseTo(0, 6);
  });

  it("gives the same bits in every order of threads", () => {
    const [rows, V] = [3, 1001];
    const random = new RandomValues(8);
    const logits = rounded(random.normal(rows * V, 4), "bf16");
    const targets = Int32Array.of(1000, -100, 0);
    const result = probeRepeatedly("cross_entropy", { dtype: "bf16", V, logits, targets });
    expectClose(result.losses, crossEntropy(logits, targets, V).losses, tolerance("crossEntropy", "bf16", "forward"));
  });

  it("lets NaN through to the loss", () => {
    const logits = Float32Array.of(1, Number.NaN, 2);
    expect(probe("cross_entropy", { V: 3, logits, targets: Int32Array.of(0) }).losses![0]).toBeNaN();
  });
});
