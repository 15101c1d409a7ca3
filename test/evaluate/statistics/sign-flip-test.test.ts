import { describe, expect, it } from "vitest";
import { CounterRandom, randomPurpose } from "../../../src/data/philox.js";
import { holmAdjusted, signFlipTest } from "../../../src/evaluate/statistics/sign-flip-test.js";
import { gaussian, loadFigures } from "./simulation.js";

const seed = 0;

describe("signFlipTest", () => {
  it("counts patterns by hand: three equal differences leave 2 of 8 as far out", () => {
    expect(signFlipTest([1, 1, 1], { seed })).toEqual({ p: 0.25, method: "exact" });
    // |1 + 2 + 0|: the patterns of (1, 2) sum to 3, 1, -1, -3, two of four as far out
    expect(signFlipTest([1, 2, 0], { seed })).toEqual({ p: 0.5, method: "exact" });
  });

  it("is SciPy's exact permutation test, with ties, zeros and halves", () => {
    for (const { differences, p } of loadFigures().signFlip) {
      const result = signFlipTest(differences, { seed });
      expect(result.method).toBe("exact");
      expect(result.p).toBeCloseTo(p, 9);
    }
  });

  it("is exact for averages of three judgements, whose thirds do not fit doubles", () => {
    expect(signFlipTest([1 / 3, 2 / 3, 1 / 3, 1], { seed })).toEqual({ ...signFlipTest([1, 2, 1, 3], { seed }) });
  });

  it("does not depend on order, on zeros, or on which system is first", () => {
    const differences = [3, -1, 2, 2, -2, 1];
    const { p } = signFlipTest(differences, { seed });
    expect(signFlipTest([0, ...differences.toReversed(), 0], { seed }).p).toBeCloseTo(p, 12);
    expect(
      signFlipTest(
        differences.map((difference) => -difference),
        { seed },
      ).p,
    ).toBeCloseTo(p, 12);
  });

  it("is 1 for equal systems", () => {
    expect(signFlipTest([0, 0, 0], { seed })).toEqual({ p: 1, method: "exact" });
    expect(signFlipTest([], { seed })).toEqual({ p: 1, method: "exact" });
    expect(signFlipTest([2, -2], { seed }).p).toBe(1);
  });

  it("is exact at 50 prompts: all 50 better leave 2 of 2^50 patterns", () => {
    expect(signFlipTest(new Array<number>(50).fill(1), { seed }).p).toBeCloseTo(2 / 2 ** 50, 20);
  });

  it("samples where there is no common unit, near the exact p", () => {
    const whole = loadFigures().signFlip[0]!.differences;
    const sampled = signFlipTest(
      whole.map((difference) => difference * Math.SQRT2),
      { seed: 4 },
    );
    expect(sampled.method).toBe("monte carlo");
    expect(Math.abs(sampled.p - signFlipTest(whole, { seed }).p)).toBeLessThan(0.005); // 3 standard errors of 100,000 patterns
  });

  it("is below 0.05 in about 5% of samples without a difference", () => {
    const random = new CounterRandom(33, randomPurpose.bootstrap, 4);
    let small = 0;
    for (let trial = 0; trial < 3000; trial++) {
      const differences = Array.from({ length: 30 }, () => Math.round(2 * gaussian(random)));
      if (signFlipTest(differences, { seed }).p < 0.05) small++;
    }
    expect(small / 3000).toBeGreaterThan(0.03); // not above 0.05 but for chance, and below it because p is discrete
    expect(small / 3000).toBeLessThan(0.06);
  });
});

describe("holmAdjusted", () => {
  it("is Holm's by hand: 0.01 * 4, 0.02 * 3, then never smaller, at most 1", () => {
    const adjusted = holmAdjusted([0.04, 0.01, 0.02, 0.9]);
    expect(adjusted.map((p) => Number(p.toFixed(12)))).toEqual([0.08, 0.04, 0.06, 0.9]);
    expect(holmAdjusted([0.6, 0.7])).toEqual([1, 1]);
    expect(holmAdjusted([])).toEqual([]);
  });
});
