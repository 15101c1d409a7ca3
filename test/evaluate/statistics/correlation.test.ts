import { describe, expect, it } from "vitest";
import { CounterRandom, randomPurpose } from "../../../src/data/philox.js";
import { kendallTauB, pearson, ranksOf, spearman } from "../../../src/evaluate/statistics/correlation.js";
import type { Estimate } from "../../../src/evaluate/statistics/interval.js";
import { gaussian, loadFigures } from "./simulation.js";

const { x, y, ...figures } = loadFigures().correlation;
const measures = { pearson, spearman, kendallTauB } as const;

describe("correlations", () => {
  it("are SciPy's, with ties", () => {
    expect(pearson(x, y).value).toBeCloseTo(figures.pearson, 12);
    expect(spearman(x, y).value).toBeCloseTo(figures.spearman, 12);
    expect(kendallTauB(x, y).value).toBeCloseTo(figures.kendall, 12);
    expect(ranksOf(x)).toEqual(figures.ranks);
  });

  it("pearson's interval is SciPy's", () => {
    const [low, high] = pearson(x, y).interval!;
    expect(low).toBeCloseTo(figures.pearsonInterval[0], 9);
    expect(high).toBeCloseTo(figures.pearsonInterval[1], 9);
  });

  it("spearman's and kendall's intervals are Bonett and Wright's formulas, by hand", () => {
    // n = 8: z = atanh(r), half width 1.959964 sqrt((1 + r^2 / 2) / 5) and 1.959964 sqrt(0.437 / 4)
    const byHand = (r: number, variance: number): number[] =>
      [-1, 1].map((side) => Math.tanh(Math.atanh(r) + side * 1.959964 * Math.sqrt(variance)));
    const [rho, tau] = [figures.spearman, figures.kendall];
    expect(spearman(x, y).interval!.map((end) => end.toFixed(5))).toEqual(byHand(rho, (1 + rho ** 2 / 2) / 5).map((end) => end.toFixed(5)));
    expect(kendallTauB(x, y).interval!.map((end) => end.toFixed(5))).toEqual(byHand(tau, 0.437 / 4).map((end) => end.toFixed(5)));
  });

  it("kendall counts pairs: 4 concordant, 1 discordant, 1 tied in x gives 3 / sqrt(5 * 6)", () => {
    expect(kendallTauB([1, 2, 2, 4], [1, 3, 2, 2.5]).value).toBeCloseTo(3 / Math.sqrt(5 * 6), 12);
  });

  describe.each(Object.entries(measures))("%s", (_, measure) => {
    it("is symmetric, and unchanged by scale and shift", () => {
      const { value } = measure(x, y);
      expect(measure(y, x).value).toBeCloseTo(value!, 12);
      expect(
        measure(
          x.map((each) => 3 * each - 7),
          y,
        ).value,
      ).toBeCloseTo(value!, 12);
      expect(
        measure(
          x.map((each) => -each),
          y,
        ).value,
      ).toBeCloseTo(-value!, 12);
    });

    it("is 1 without an interval for values in one order on a line", () => {
      expect(measure([1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60])).toEqual({ value: 1, interval: null });
    });

    it("is null, not NaN, for a constant side, one pair, and none", () => {
      const none: Estimate = { value: null, interval: null };
      expect(measure([1, 1, 1, 1, 1], [1, 2, 3, 4, 5])).toEqual(none);
      expect(measure([0.1, 0.1, 0.1], [1, 2, 3])).toEqual(none);
      expect(measure([3], [4])).toEqual(none);
      expect(measure([], [])).toEqual(none);
    });

    it("has no interval for three pairs", () => {
      expect(measure([1, 2, 3], [1, 3, 2])).toMatchObject({ value: expect.any(Number), interval: null });
    });

    it("stays within -1 and 1, and its interval around it, on random data", () => {
      const random = new CounterRandom(5, randomPurpose.bootstrap, 1);
      for (let round = 0; round < 200; round++) {
        const draw = (): number[] => Array.from({ length: 5 + (round % 7) }, () => random.below(4));
        const { value, interval } = measure(draw(), draw());
        if (value === null) continue;
        expect(Math.abs(value)).toBeLessThanOrEqual(1);
        if (interval === null) continue;
        expect(interval[0]).toBeLessThan(value);
        expect(interval[1]).toBeGreaterThan(value);
      }
    });
  });
});

describe("95% intervals of correlations", () => {
  // The true values for a bivariate normal distribution with correlation 0.6 (Kendall & Gibbons 1990, chapter 10).
  const truth = { pearson: 0.6, spearman: (6 / Math.PI) * Math.asin(0.3), kendallTauB: (2 / Math.PI) * Math.asin(0.6) } as const;

  it.each(Object.entries(measures))("%s's covers the truth in about 95% of 2,000 samples of 12 systems", (name, measure) => {
    const random = new CounterRandom(11, randomPurpose.bootstrap, 2);
    let covered = 0;
    for (let trial = 0; trial < 2000; trial++) {
      const a = Array.from({ length: 12 }, () => gaussian(random));
      const b = a.map((value) => 0.6 * value + 0.8 * gaussian(random));
      const [low, high] = measure(a, b).interval ?? [Number.NaN, Number.NaN];
      const value = truth[name as keyof typeof truth];
      if (low <= value && value <= high) covered++;
    }
    expect(covered / 2000).toBeGreaterThan(0.92);
    expect(covered / 2000).toBeLessThan(0.985);
  });
});
