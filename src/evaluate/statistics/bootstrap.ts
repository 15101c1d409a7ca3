/**
 * Bootstrap intervals: BCa (bias-corrected and accelerated; Efron 1987, "Better bootstrap confidence intervals", JASA 82(397); Efron &
 * Tibshirani 1993, section 14.3). Chosen over the percentile interval because scores pile up at an end of their range (a language a
 * system hardly answers in has nearly all zeros, a good one nearly all threes): the sampling distribution is skewed there, and BCa's
 * coverage error is of order 1/n where the percentile's is of order 1/sqrt(n).
 */
import { CounterRandom, randomPurpose } from "../../data/philox.js";
import { confidence, type Interval } from "./interval.js";
import { meanOf, sumOf } from "./mean.js";
import { normalCdf, normalQuantile } from "./normal-distribution.js";

/** At this number the interval's ends move by less than 2% of its width from seed to seed. */
export const defaultResamples = 10_000;

/** Fewer have less than 126 different resamples, which say little about how the statistic varies. */
const minUnits = 5;

/** A statistic that is undefined in more than this share of the resamples gets no interval. */
const maxUndefinedShare = 0.05;

/** A statistic of the units at `indices`, in which a unit may stand several times or not at all; null where it is undefined. */
export type Statistic = (indices: Int32Array) => number | null;

/**
 * The resamples of n units. They depend on (seed, n) alone, so that all systems' intervals for a language are made from the same draws
 * and do not depend on which other systems are there.
 */
export class Resampler {
  readonly seed: number;
  readonly resamples: number;
  readonly #drawn = new Map<number, readonly Int32Array[]>();

  /** @param seed an integer, 0 to 2^53 - 1 */
  constructor(seed: number, resamples = defaultResamples) {
    this.seed = seed;
    this.resamples = resamples;
  }

  /** `resamples` arrays of n indices below n. */
  of(n: number): readonly Int32Array[] {
    const known = this.#drawn.get(n);
    if (known) return known;
    const random = new CounterRandom(this.seed, randomPurpose.bootstrap, n);
    const drawn = Array.from({ length: this.resamples }, () => Int32Array.from({ length: n }, () => random.below(n)));
    this.#drawn.set(n, drawn);
    return drawn;
  }
}

/**
 * The BCa interval of a statistic of n units.
 *
 * @returns null where there is nothing to estimate it from: fewer than five units, a statistic that is the same whichever unit is left
 *   out, or one that is undefined for the data or for more than 5% of the resamples
 */
export function bootstrapInterval(n: number, statistic: Statistic, resampler: Resampler): Interval | null {
  if (n < minUnits) return null;
  const all = Int32Array.from({ length: n }, (_, index) => index);
  const estimate = statistic(all);
  if (estimate === null) return null;
  const acceleration = accelerationOf(all, statistic);
  if (acceleration === null) return null;
  const replicates = resampler
    .of(n)
    .map(statistic)
    .filter((value) => value !== null);
  if (replicates.length < (1 - maxUndefinedShare) * resampler.resamples) return null;
  return biasCorrected(Float64Array.from(replicates).sort(), estimate, acceleration);
}

/** {@link bootstrapInterval} of the sum of `values`. */
export function sumInterval(values: readonly number[], resampler: Resampler): Interval | null {
  const units = Float64Array.from(values);
  const meanOf = (indices: Int32Array): number => {
    let sum = 0;
    for (const index of indices) sum += units[index]!;
    return sum / indices.length; // the jackknife's samples are one short, a sum would not be comparable
  };
  const interval = bootstrapInterval(units.length, meanOf, resampler);
  return interval && [interval[0] * units.length, interval[1] * units.length];
}

/** One sixth of the skewness of the jackknife values (Efron & Tibshirani 1993, equation 14.15); null where they do not vary. */
function accelerationOf(all: Int32Array, statistic: Statistic): number | null {
  const values: number[] = [];
  for (const left of all) {
    const value = statistic(all.filter((index) => index !== left));
    if (value === null) return null;
    values.push(value);
  }
  const mean = meanOf(values);
  const deviations = values.map((value) => mean - value);
  const squares = sumOf(deviations.map((deviation) => deviation ** 2));
  const scale = sumOf(values.map(Math.abs));
  if (Math.sqrt(squares) <= 1e-12 * scale) return null; // rounding, not variation
  return sumOf(deviations.map((deviation) => deviation ** 3)) / (6 * squares ** 1.5);
}

function biasCorrected(sorted: Float64Array, estimate: number, acceleration: number): Interval | null {
  // Scores are on a lattice and many resamples tie with the estimate: half of those count as below it.
  const below = sorted.filter((value) => value < estimate).length;
  const notAbove = sorted.filter((value) => value <= estimate).length;
  const share = (below + notAbove) / (2 * sorted.length);
  if (share === 0 || share === 1) return null;
  const bias = normalQuantile(share);
  const end = (probability: number): number => {
    const z = bias + normalQuantile(probability);
    return quantileOf(sorted, normalCdf(bias + z / (1 - acceleration * z))); // |acceleration| <= 1/6, so the divisor stays positive
  };
  const tail = (1 - confidence) / 2;
  return [end(tail), end(1 - tail)];
}

/** Linear between the two nearest values. */
function quantileOf(sorted: Float64Array, share: number): number {
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const low = sorted[below]!;
  return low + (position - below) * (sorted[Math.min(below + 1, sorted.length - 1)]! - low);
}
