import { describe, expect, it } from "vitest";
import { CounterRandom, randomPurpose } from "../../../src/data/philox.js";
import { bootstrapInterval, Resampler, sumInterval } from "../../../src/evaluate/statistics/bootstrap.js";
import { choose, loadFigures } from "./simulation.js";

describe("sumInterval", () => {
  it("is SciPy's BCa interval of skewed scores", () => {
    const { values, interval } = loadFigures().bca;
    const [low, high] = sumInterval(values, new Resampler(1, 50_000))!;
    // Both are Monte Carlo: the ends lie on a lattice of whole scores, so they agree to about half of one.
    expect(Math.abs(low - interval[0])).toBeLessThanOrEqual(0.6);
    expect(Math.abs(high - interval[1])).toBeLessThanOrEqual(0.6);
  });

  it("scales and shifts with the scores", () => {
    const values = loadFigures().bca.values;
    const [low, high] = sumInterval(values, new Resampler(3, 2000))!;
    const scaled = sumInterval(
      values.map((value) => 2 * value + 1),
      new Resampler(3, 2000),
    )!;
    expect(scaled[0]).toBeCloseTo(2 * low + values.length, 6);
    expect(scaled[1]).toBeCloseTo(2 * high + values.length, 6);
  });

  it("depends on the seed alone", () => {
    const values = [0, 1, 3, 2, 2, 0, 3, 1, 1, 0];
    expect(sumInterval(values, new Resampler(7, 500))).toEqual(sumInterval(values, new Resampler(7, 500)));
    expect(sumInterval(values, new Resampler(7, 500))).not.toEqual(sumInterval(values, new Resampler(8, 500)));
  });

  it("is null for constant values, also where their sum rounds, and for fewer than five", () => {
    const resampler = new Resampler(0, 200);
    expect(sumInterval(new Array<number>(50).fill(3), resampler)).toBeNull();
    expect(sumInterval(new Array<number>(50).fill(0), resampler)).toBeNull();
    expect(sumInterval(new Array<number>(49).fill(7 / 3), resampler)).toBeNull();
    expect(sumInterval([2], resampler)).toBeNull();
    expect(sumInterval([1, 2, 3, 1], resampler)).toBeNull();
    expect(sumInterval([1, 2, 3, 1, 2], resampler)).not.toBeNull();
    expect(sumInterval([], resampler)).toBeNull();
  });

  it("stays within what the scores can sum to", () => {
    const [low, high] = sumInterval([0, 0, 0, 0, 0, 0, 0, 0, 0, 3], new Resampler(0, 1000))!;
    expect(low).toBeGreaterThanOrEqual(0);
    expect(high).toBeLessThanOrEqual(30);
  });

  // Scores of a good, a middling and a weak system.
  it.each([
    ["mostly 3", [0.05, 0.05, 0.2, 0.7]],
    ["even", [0.25, 0.25, 0.25, 0.25]],
    ["mostly 0", [0.8, 0.06, 0.08, 0.06]],
  ] as const)("covers the truth in about 95% of 1,000 samples of 50 prompts: %s", (_, probabilities) => {
    const random = new CounterRandom(21, randomPurpose.bootstrap, 3);
    const resampler = new Resampler(5, 1000);
    const truth = 50 * probabilities.reduce((sum, probability, value) => sum + probability * value, 0);
    let covered = 0;
    for (let trial = 0; trial < 1000; trial++) {
      const interval = sumInterval(
        Array.from({ length: 50 }, () => choose(probabilities, random)),
        resampler,
      );
      if (interval !== null && interval[0] <= truth && truth <= interval[1]) covered++;
    }
    expect(covered / 1000).toBeGreaterThan(0.92);
    expect(covered / 1000).toBeLessThan(0.975);
  });
});

describe("bootstrapInterval", () => {
  it("is that of Efron and Tibshirani's spatial test data", () => {
    // Efron & Tibshirani 1993, table 14.1 (scores A of 26 children); section 14.3: the variance is 171.5 and its 90% BCa interval,
    // from 2,000 resamples, [115.8, 259.6]. The 95% interval must hold it, and the acceleration's formula fixes how far it goes.
    const a = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41];
    const varianceOf = (indices: Int32Array): number => {
      const mean = indices.reduce((sum, index) => sum + a[index]!, 0) / indices.length;
      return indices.reduce((sum, index) => sum + (a[index]! - mean) ** 2, 0) / indices.length;
    };
    expect(varianceOf(Int32Array.from(a.keys()))).toBeCloseTo(171.5, 1);
    const [low, high] = bootstrapInterval(a.length, varianceOf, new Resampler(2, 20_000))!;
    expect(low).toBeGreaterThan(100);
    expect(low).toBeLessThan(115.8);
    expect(high).toBeGreaterThan(259.6);
    expect(high).toBeLessThan(290);
  });

  it("is null where the statistic is undefined for the data, or for more than 5% of the resamples", () => {
    const resampler = new Resampler(0, 400);
    expect(bootstrapInterval(5, () => null, resampler)).toBeNull();
    const needsBoth = (indices: Int32Array): number | null => (indices.includes(0) && indices.includes(1) ? indices[0]! : null);
    expect(bootstrapInterval(5, needsBoth, resampler)).toBeNull();
  });
});

describe("Resampler", () => {
  it("draws every unit about equally often", () => {
    const counts = new Array<number>(7).fill(0);
    for (const indices of new Resampler(3, 5000).of(7)) for (const index of indices) counts[index]!++;
    for (const count of counts) expect(Math.abs(count - 5000)).toBeLessThan(5 * Math.sqrt(5000)); // five standard deviations
  });
});
