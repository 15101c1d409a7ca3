/**
 * The paired permutation test by sign flips (Fisher 1935, "The Design of Experiments", section 21): were two systems alike, each
 * prompt's difference could as well have had the other sign.
 */
import { CounterRandom, randomPurpose } from "../../data/philox.js";
import { sumOf } from "./mean.js";

export interface SignFlipTest {
  /** Two-sided. */
  readonly p: number;
  /** "exact" counts all 2^n sign patterns, "monte carlo" random ones. */
  readonly method: "exact" | "monte carlo";
}

export interface SignFlipOptions {
  /** Of the random patterns. */
  readonly seed: number;
  /** Random patterns, where the exact distribution is out of reach; default 100,000. */
  readonly patterns?: number;
}

/** Denominators tried for the differences' common unit: averages over up to this many judgements. */
const maxDenominator = 60;
/** Steps of the exact distribution's range; a longer one is sampled. */
const maxRange = 1_000_000;

/**
 * Tests whether the differences are centred at 0, by their sum.
 *
 * Ratings lie on a lattice (whole numbers, or averages of K of them), which makes the exact distribution of the sum cheap for any n: it
 * is built up one difference at a time (Pagano & Tritchler 1983, "On obtaining permutation distributions in polynomial time", JASA
 * 78(382)). Differences without a common unit are tested by random patterns, with p = (1 + hits) / (1 + patterns) (Phipson & Smyth
 * 2010), which is never 0.
 *
 * @returns p = 1 where all differences are 0
 */
export function signFlipTest(differences: readonly number[], options: SignFlipOptions): SignFlipTest {
  const moving = differences.filter((difference) => difference !== 0).map(Math.abs);
  const observed = Math.abs(sumOf(differences));
  const unit = commonUnit(moving);
  if (unit === null) return { p: sampledShare(moving, observed, options), method: "monte carlo" };
  const steps = moving.map((size) => Math.round(size / unit));
  return { p: exactShare(steps, Math.round(observed / unit)), method: "exact" };
}

/** The largest 1/q of which all sizes are whole multiples; null: none, or too fine for the exact distribution. */
function commonUnit(sizes: readonly number[]): number | null {
  const total = sumOf(sizes);
  for (let q = 1; q <= maxDenominator && total * q <= maxRange; q++) {
    if (sizes.every((size) => Math.abs(size * q - Math.round(size * q)) < 1e-9)) return 1 / q;
  }
  return null;
}

/** Share of sign patterns whose sum is at least as far from 0. */
function exactShare(steps: readonly number[], observed: number): number {
  const reach = sumOf(steps);
  let probabilities = new Float64Array(2 * reach + 1);
  probabilities[reach] = 1; // index `reach` stands for the sum 0
  let reached = 0;
  for (const step of steps) {
    const next = new Float64Array(2 * reach + 1);
    for (let at = reach - reached; at <= reach + reached; at++) {
      const half = probabilities[at]! / 2;
      next[at - step]! += half;
      next[at + step]! += half;
    }
    probabilities = next;
    reached += step;
  }
  const upper = probabilities.subarray(reach + observed).reduce((sum, probability) => sum + probability, 0);
  return Math.min(1, observed === 0 ? 1 : 2 * upper); // the distribution is symmetric
}

function sampledShare(sizes: readonly number[], observed: number, { seed, patterns = 100_000 }: SignFlipOptions): number {
  const random = new CounterRandom(seed, randomPurpose.signFlips, sizes.length);
  const limit = observed - 1e-12 * sumOf(sizes); // sums in another order round otherwise
  let hits = 0;
  for (let pattern = 0; pattern < patterns; pattern++) {
    let sum = 0;
    let bits = 0;
    for (const [index, size] of sizes.entries()) {
      if (index % 32 === 0) bits = random.uint32();
      sum += bits & 1 ? size : -size;
      bits >>>= 1;
    }
    if (Math.abs(sum) >= limit) hits++;
  }
  return (1 + hits) / (1 + patterns);
}

/**
 * p-values adjusted for their number by Holm's step-down method (Holm 1979, Scandinavian Journal of Statistics 6): those below 0.05 are
 * significant together, with at most a 5% chance of any false one, whatever their dependence.
 */
export function holmAdjusted(pValues: readonly number[]): number[] {
  const ascending = pValues.map((p, index) => ({ p, index })).sort((a, b) => a.p - b.p);
  const adjusted = new Array<number>(pValues.length);
  let largest = 0;
  for (const [rank, { p, index }] of ascending.entries()) {
    largest = Math.max(largest, Math.min(1, (pValues.length - rank) * p));
    adjusted[index] = largest;
  }
  return adjusted;
}
