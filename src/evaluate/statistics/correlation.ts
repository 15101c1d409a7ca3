/**
 * Correlations of paired values, each with an interval by Fisher's z = atanh(r), whose variance is about c / (n - d):
 *
 *   Pearson      1 / (n - 3)                 Fisher 1921, Metron 1
 *   Spearman     (1 + rho^2 / 2) / (n - 3)   Bonett & Wright 2000, Psychometrika 65(1)
 *   Kendall      0.437 / (n - 4)             Fieller, Hartley & Pearson 1957, Biometrika 44
 *
 * Analytic because systems, the units of a system-level correlation, are few: resampling half a dozen of them mostly repeats a handful.
 * All are null for fewer than two pairs and where a side is constant; the interval also for too few pairs and for r = ±1, where the
 * formulas give width 0.
 */
import { confidence, type Estimate, type Interval } from "./interval.js";
import { meanOf } from "./mean.js";
import { normalQuantile } from "./normal-distribution.js";

type Values = readonly number[];

/** @param x,y of one length */
export function pearson(x: Values, y: Values): Estimate {
  const value = pearsonOf(x, y);
  return { value, interval: fisherInterval(value, 1 / (x.length - 3)) };
}

/** Pearson's correlation of the ranks, ties sharing their mean rank. */
export function spearman(x: Values, y: Values): Estimate {
  const value = pearsonOf(ranksOf(x), ranksOf(y));
  return { value, interval: fisherInterval(value, (1 + (value ?? 0) ** 2 / 2) / (x.length - 3)) };
}

/** Kendall's tau-b = (concordant - discordant) / sqrt(pairs untied in x * pairs untied in y); Kendall 1945, Biometrika 33(3). */
export function kendallTauB(x: Values, y: Values): Estimate {
  let [balance, untiedX, untiedY] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    for (let j = 0; j < i; j++) {
      const [signX, signY] = [Math.sign(x[i]! - x[j]!), Math.sign(y[i]! - y[j]!)];
      balance += signX * signY;
      untiedX += Math.abs(signX);
      untiedY += Math.abs(signY);
    }
  }
  const value = untiedX === 0 || untiedY === 0 ? null : inRange(balance / Math.sqrt(untiedX * untiedY));
  return { value, interval: fisherInterval(value, 0.437 / (x.length - 4)) };
}

/** Ranks from 1; tied values get the mean of the ranks they take up. */
export function ranksOf(values: Values): number[] {
  const order = values.map((value, index) => ({ value, index })).sort((a, b) => a.value - b.value);
  const ranks = new Array<number>(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && order[end]!.value === order[start]!.value) end++;
    for (let at = start; at < end; at++) ranks[order[at]!.index] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

function pearsonOf(x: Values, y: Values): number | null {
  const [dx, dy] = [deviations(x), deviations(y)];
  if (dx === null || dy === null) return null;
  const product = dx.reduce((sum, value, index) => sum + value * dy[index]!, 0);
  return inRange(product / (norm(dx) * norm(dy)));
}

/** From the mean; null where there are fewer than two values or they do not vary. */
function deviations(values: Values): number[] | null {
  if (values.every((value) => value === values[0])) return null;
  const mean = meanOf(values);
  return values.map((value) => value - mean);
}

function norm(values: Values): number {
  return Math.hypot(...values);
}

/** Rounding may carry a perfect correlation a little past 1. */
function inRange(value: number): number {
  return Math.max(-1, Math.min(1, value));
}

function fisherInterval(value: number | null, variance: number): Interval | null {
  const isDetermined = Number.isFinite(variance) && variance > 0;
  if (value === null || !isDetermined || Math.abs(value) >= 1 - 1e-12) return null;
  const half = normalQuantile((1 + confidence) / 2) * Math.sqrt(variance);
  return [Math.tanh(Math.atanh(value) - half), Math.tanh(Math.atanh(value) + half)];
}
