/** Middle and spread of repeated measurements. */

export interface Spread {
  readonly median: number;
  /** First and third quartile: half of the values lie between them. */
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

/** @param values at least one, in any order */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), low: quantile(sorted, 0.25), high: quantile(sorted, 0.75), count: sorted.length };
}

export function medianOf(values: readonly number[]): number {
  return spreadOf(values).median;
}

/** Interquartile range over the median: 0.02 means that half of the values lie within a band of 2%. */
export function relativeSpread({ median, low, high }: Spread): number {
  return median === 0 ? 0 : (high - low) / median;
}

/** Linear between the two nearest values, as NumPy's default. */
function quantile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) throw new RangeError("no values to take a quantile of");
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const low = sorted[below]!;
  const high = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return low + (position - below) * (high - low);
}
