/** Numbers in tables. */
import type { Interval } from "./statistics/interval.js";
import { noValue } from "./table.js";

/** 112, 98.5, 3.33: no more decimals than it has, up to one from 10 on and two below. */
export function formatScore(value: number): string {
  return String(Number(value.toFixed(Math.abs(value) < 10 ? 2 : 1)) + 0); // + 0: no "-0"
}

/** 0.70, -0.07. */
export function formatCoefficient(value: number | null): string {
  return value === null ? noValue : unsigned(value.toFixed(2));
}

/** " [98, 124]"; nothing for none. */
export function formatInterval(interval: Interval | null, format: (value: number) => string): string {
  return interval === null ? "" : ` [${format(interval[0])}, ${format(interval[1])}]`;
}

export function formatPercent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

/** 0.012, or <0.001. */
export function formatP(p: number): string {
  return p < 0.001 ? "<0.001" : p.toFixed(3);
}

/** -0.00 is 0.00. */
function unsigned(text: string): string {
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text;
}
