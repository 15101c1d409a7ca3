/** Where axes end. */
import type { Point } from "./figure.js";

/**
 * End of a score axis: the first of 10, 15, 20, 30, 50, 75, 100, 150, ... that holds the highest value, but no more than the best possible
 * score.
 */
export function scoreAxisEnd(highest: number, best: number): number {
  if (highest <= 0) return Math.min(1, best);
  const decade = 10 ** Math.floor(Math.log10(highest));
  const end = [1, 1.5, 2, 3, 5, 7.5, 10].map((step) => step * decade).find((candidate) => candidate >= highest)!;
  return Math.min(end, best);
}

/**
 * Ends of a log axis: powers of ten around the positive values and interval ends. The lower one is well below the smallest value, since
 * zeros are drawn there and must not look like it. 0.1 to 10 where all values are zero.
 */
export function logAxis(points: readonly Point[]): readonly [low: number, high: number] {
  const values = points.map(({ value }) => value ?? 0).filter((value) => value > 0);
  if (values.length === 0) return [0.1, 10];
  const highest = Math.max(...values, ...points.map(({ high }) => high ?? 0));
  const low = powerOfTen(Math.ceil(Math.log10(Math.min(...values) / 1.5)) - 1);
  return [low, powerOfTen(Math.max(Math.ceil(Math.log10(highest)), Math.log10(low) + 1))];
}

/** Correctly rounded: 10 ** -1 need not be. */
function powerOfTen(exponent: number): number {
  return Number(`1e${Math.round(exponent)}`);
}
