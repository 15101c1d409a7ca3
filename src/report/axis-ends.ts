/** Where axes end, and what is written along them. */
import type { Point } from "./figure.js";

export interface AxisScale {
  readonly low: number;
  readonly high: number;
  /** Ascending; the first is `low`. */
  readonly ticks: readonly number[];
}

/** Ends of axes and the distance of their ticks, times powers of ten. */
const steps = [
  { end: 1, tick: 0.2 },
  { end: 1.5, tick: 0.3 },
  { end: 2, tick: 0.5 },
  { end: 3, tick: 0.5 },
  { end: 5, tick: 1 },
  { end: 7.5, tick: 1.5 },
  { end: 10, tick: 2 },
];

/**
 * From 0 to the first of 10, 15, 20, 30, 50, 75, 100, 150, ... that holds the highest value, but to no more than the best possible score.
 */
export function scoreAxis(highest: number, best: number): AxisScale {
  const decade = 10 ** Math.floor(Math.log10(Math.max(highest, 1)));
  const { end, tick } = steps.find((step) => step.end * decade >= highest)!;
  const high = Math.min(end * decade, best);
  const count = Math.floor(high / (tick * decade) + 1e-9);
  return { low: 0, high, ticks: Array.from({ length: count + 1 }, (_, index) => Number((index * tick * decade).toPrecision(6))) };
}

/**
 * Powers of ten around the positive values and interval ends. The lower end is well below the smallest value, since zeros are drawn there
 * and must not look like it. 0.1 to 10 where all values are zero.
 */
export function logAxis(points: readonly Point[]): AxisScale {
  const values = points.map(({ value }) => value ?? 0).filter((value) => value > 0);
  const smallest = values.length > 0 ? Math.min(...values) : 1;
  const first = values.length > 0 ? Math.ceil(Math.log10(smallest / 1.5)) - 1 : -1;
  const highest = Math.max(smallest, ...points.flatMap(({ value, high }) => [value ?? 0, high ?? 0]));
  const last = values.length > 0 ? Math.max(Math.ceil(Math.log10(highest)), first + 1) : 1;
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => Number(`1e${first + index}`));
  return { low: ticks[0]!, high: ticks.at(-1)!, ticks };
}
