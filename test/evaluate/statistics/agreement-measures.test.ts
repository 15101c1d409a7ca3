import { describe, expect, it } from "vitest";
import { CounterRandom, randomPurpose } from "../../../src/data/philox.js";
import { krippendorffAlpha } from "../../../src/evaluate/statistics/krippendorff-alpha.js";
import { normalCdf, normalQuantile } from "../../../src/evaluate/statistics/normal-distribution.js";
import { linearDisagreement, quadraticDisagreement, weightedKappa } from "../../../src/evaluate/statistics/weighted-kappa.js";
import { wilsonInterval } from "../../../src/evaluate/statistics/wilson-interval.js";
import { loadFigures } from "./simulation.js";

// Cohen 1968, table 1 (the same as Cohen 1960's): two judges' diagnoses of 200 patients, as shares.
const diagnoses = [
  [0.44, 0.05, 0.01],
  [0.07, 0.2, 0.03],
  [0.09, 0.05, 0.06],
];

describe("weightedKappa", () => {
  it("is Cohen's: 0.492 unweighted (1960), 0.348 with his weights (1968)", () => {
    const weights = [
      [0, 1, 3],
      [1, 0, 6],
      [3, 6, 0],
    ];
    expect(weightedKappa(diagnoses, (i, j) => (i === j ? 0 : 1))).toBeCloseTo(0.492, 3);
    expect(weightedKappa(diagnoses, (i, j) => weights[i]![j]!)).toBeCloseTo(0.348, 3);
  });

  it("is as by hand with linear and quadratic weights", () => {
    // margins .5 .3 .2 and .6 .3 .1; observed one apart .20, two apart .10; expected one apart .42, two apart .17
    expect(weightedKappa(diagnoses, linearDisagreement)).toBeCloseTo(1 - (0.2 + 2 * 0.1) / (0.42 + 2 * 0.17), 12);
    expect(weightedKappa(diagnoses, quadraticDisagreement)).toBeCloseTo(1 - (0.2 + 4 * 0.1) / (0.42 + 4 * 0.17), 12);
  });

  it("does not depend on the total, nor on who is first", () => {
    const counts = diagnoses.map((row) => row.map((share) => 200 * share));
    const transposed = counts.map((_, i) => counts.map((row) => row[i]!));
    const value = weightedKappa(diagnoses, quadraticDisagreement)!;
    expect(weightedKappa(counts, quadraticDisagreement)).toBeCloseTo(value, 12);
    expect(weightedKappa(transposed, quadraticDisagreement)).toBeCloseTo(value, 12);
  });

  it("is 1 for the same ratings, 0 for independent ones, at most 1 for any", () => {
    const diagonal = [
      [5, 0, 0],
      [0, 2, 0],
      [0, 0, 9],
    ];
    const independent = [
      [6, 3, 1],
      [12, 6, 2],
      [18, 9, 3],
    ];
    expect(weightedKappa(diagonal, quadraticDisagreement)).toBe(1);
    expect(weightedKappa(independent, linearDisagreement)).toBeCloseTo(0, 12);
    const random = new CounterRandom(2, randomPurpose.bootstrap, 5);
    for (let round = 0; round < 100; round++) {
      const value = weightedKappa(
        [0, 1, 2].map(() => [random.below(5), random.below(5), random.below(5)]),
        linearDisagreement,
      );
      if (value !== null) expect(value).toBeLessThanOrEqual(1);
    }
  });

  it("is null, not NaN, for an empty table and for one category", () => {
    expect(weightedKappa([], linearDisagreement)).toBeNull();
    expect(
      weightedKappa(
        [
          [0, 0],
          [0, 0],
        ],
        linearDisagreement,
      ),
    ).toBeNull();
    expect(
      weightedKappa(
        [
          [9, 0],
          [0, 0],
        ],
        linearDisagreement,
      ),
    ).toBeNull();
  });
});

describe("krippendorffAlpha", () => {
  it("is 0.849 for the interval example of Krippendorff 2011", () => {
    // Four observers (rows) of twelve units; 0 stands for a missing value.
    const observers = [
      [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
      [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
      [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
      [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ];
    const units = Array.from({ length: 12 }, (_, unit) => observers.map((row) => row[unit]!).filter((rating) => rating > 0));
    expect(krippendorffAlpha(units)).toBeCloseTo(0.849, 3);
  });

  it("is 1 for equal ratings that vary, and null where nothing can be compared or nothing varies", () => {
    expect(krippendorffAlpha([[1, 1], [3, 3], [2]])).toBe(1);
    expect(krippendorffAlpha([[1], [2]])).toBeNull();
    expect(
      krippendorffAlpha([
        [2, 2],
        [2, 2],
      ]),
    ).toBeNull();
    expect(krippendorffAlpha([])).toBeNull();
  });
});

describe("the normal distribution", () => {
  it("is SciPy's", () => {
    for (const [x, probability] of loadFigures().normal) expect(Math.abs(normalCdf(x) - probability)).toBeLessThan(2e-15);
  });

  it("has its quantiles: they undo the distribution function", () => {
    for (const [x, probability] of loadFigures().normal) if (Math.abs(x) < 4) expect(normalQuantile(probability)).toBeCloseTo(x, 9);
    expect(normalQuantile(0.975)).toBeCloseTo(1.959963984540054, 12);
    expect([normalQuantile(0), normalQuantile(1)]).toEqual([Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });
});

describe("wilsonInterval", () => {
  it("is SciPy's, at both ends too", () => {
    for (const { successes, trials, interval } of loadFigures().wilson) {
      const [low, high] = wilsonInterval(successes, trials)!;
      expect(low).toBeCloseTo(interval[0], 9);
      expect(high).toBeCloseTo(interval[1], 9);
    }
    expect(wilsonInterval(0, 0)).toBeNull();
  });
});
