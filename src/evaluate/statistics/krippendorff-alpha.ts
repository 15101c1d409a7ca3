import { meanOf, sumOf } from "./mean.js";

/**
 * Krippendorff's alpha with the interval metric (a - b)^2: agreement beyond chance of any number of ratings per unit, some of which may
 * be missing (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").
 *
 * @param units the ratings of each unit; units with fewer than two do not count
 * @returns at most 1; null where there are no two ratings to compare, or all are the same
 */
export function krippendorffAlpha(units: readonly (readonly number[])[]): number | null {
  const paired = units.filter((ratings) => ratings.length >= 2);
  const values = paired.flat();
  if (values.every((value) => value === values[0])) return null;
  const observed = sumOf(paired.map((ratings) => squaredDifferences(ratings) / (ratings.length - 1))) / values.length;
  const expected = squaredDifferences(values) / (values.length * (values.length - 1));
  return 1 - observed / expected;
}

/** Sum of (a - b)^2 over all ordered pairs: 2 n times the sum of squared deviations from the mean. */
function squaredDifferences(values: readonly number[]): number {
  const mean = meanOf(values);
  return 2 * values.length * sumOf(values.map((value) => (value - mean) ** 2));
}
