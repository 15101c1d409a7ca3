/** Measures of difference. All give NaN, which is within no limit, where a value is NaN or the lengths differ. */

/** Elements to leave out of a comparison. */
export type Skip = (index: number) => boolean;

const nothing: Skip = () => false;

/** Largest absolute difference. */
export function maxAbsoluteError(actual: Float32Array, expected: Float32Array, skip: Skip = nothing): number {
  let largest = 0;
  eachDifference(actual, expected, skip, (difference) => {
    largest = Math.max(largest, Math.abs(difference)); // Math.max keeps NaN
  });
  return actual.length === expected.length ? largest : Number.NaN;
}

/** Sums of squares, so that several tensors can be taken together. */
export interface Squares {
  readonly difference: number;
  readonly expected: number;
}

export function squares(actual: Float32Array, expected: Float32Array, skip: Skip = nothing): Squares {
  let difference = actual.length === expected.length ? 0 : Number.NaN;
  let reference = 0;
  eachDifference(actual, expected, skip, (delta, value) => {
    difference += delta * delta;
    reference += value * value;
  });
  return { difference, expected: reference };
}

function eachDifference(
  actual: Float32Array,
  expected: Float32Array,
  skip: Skip,
  visit: (difference: number, expected: number) => void,
): void {
  for (let i = 0; i < expected.length; i++) {
    if (!skip(i)) visit((actual[i] ?? Number.NaN) - expected[i]!, expected[i]!);
  }
}

/** L2 of the difference over L2 of the reference, of all parts together. */
export function relativeL2(parts: readonly Squares[]): number {
  const difference = parts.reduce((sum, part) => sum + part.difference, 0);
  const expected = parts.reduce((sum, part) => sum + part.expected, 0);
  return difference === 0 ? 0 : Math.sqrt(difference / expected);
}

export function l2(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

export function maxAbsolute(values: Float32Array): number {
  return values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

export function relativeError(actual: number, expected: number): number {
  return Math.abs(actual - expected) / Math.abs(expected);
}

/** First position at which two lists of tokens differ; -1 where they are equal. */
export function firstDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const length = Math.max(actual.length, expected.length);
  for (let i = 0; i < length; i++) {
    if (actual[i] !== expected[i]) return i;
  }
  return -1;
}
