import { describe, expect, it } from "vitest";
import { firstDifference, l2, maxAbsoluteError, relativeError, relativeL2, squares } from "../../src/verify/compare.js";
import { Findings } from "../../src/verify/findings.js";

const floats = (...values: readonly number[]): Float32Array => Float32Array.from(values);

describe("measures", () => {
  it("find the largest absolute difference, whatever its sign", () => {
    expect(maxAbsoluteError(floats(1, -4, 3), floats(1, -1, 2))).toBe(3);
    expect(maxAbsoluteError(floats(1, 2), floats(1, 2))).toBe(0);
  });

  it("leave skipped elements out", () => {
    expect(maxAbsoluteError(floats(1, 9, 3), floats(1, 2, 4), (i) => i === 1)).toBe(1);
    expect(relativeL2([squares(floats(3, 9), floats(4, 1), (i) => i === 1)])).toBe(0.25);
  });

  it("take several tensors together, each by its size", () => {
    const parts = [squares(floats(4, 0), floats(3, 0)), squares(floats(0, 4), floats(0, 4))];
    expect(relativeL2(parts)).toBeCloseTo(1 / 5, 12);
    expect(relativeL2([squares(floats(0), floats(0))])).toBe(0);
  });

  it.each([
    ["a NaN", floats(1, Number.NaN), floats(1, 2)],
    ["a value too few", floats(1), floats(1, 2)],
    ["a value too many", floats(1, 2, 3), floats(1, 2)],
  ])("are within no limit for %s", (_what, actual, expected) => {
    for (const error of [maxAbsoluteError(actual, expected), relativeL2([squares(actual, expected)])]) {
      const findings = new Findings();
      findings.within("x", error, 1e30);
      expect(findings.failures).toHaveLength(1);
    }
  });

  it("know norms, relative errors and where tokens part", () => {
    expect(l2(floats(3, 4))).toBe(5);
    expect(relativeError(-2.5, -2)).toBe(0.25);
    expect(firstDifference([1, 2, 3], [1, 5, 3])).toBe(1);
    expect(firstDifference([1, 2], [1, 2, 3])).toBe(2);
    expect(firstDifference([1, 2], [1, 2])).toBe(-1);
  });
});

describe("Findings", () => {
  it("fail over the limit, not at it, and not where nothing is compared", () => {
    const findings = new Findings();
    findings.within("at", 1, 1);
    findings.within("uncompared", 9, null);
    findings.within("over", 1.1, 1);
    expect(findings.failures).toEqual(["over 1.10e+0, over the limit of 1.0e+0"]);
  });

  it("keep the largest of each quantity, NaN above all, and null for what was not measured", () => {
    const findings = new Findings();
    for (const error of [1, 3, 2]) findings.measured("logits", error);
    for (const error of [1, Number.NaN, 2]) findings.measured("curve", error);
    expect(findings.largest("logits")).toBe(3);
    expect(findings.largest("curve")).toBeNaN();
    expect(findings.largest("gradients")).toBeNull();
  });
});
