/** Stored figures, and random data under a seed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { CounterRandom } from "../../../src/data/philox.js";

export interface Figures {
  readonly normal: readonly (readonly [number, number])[];
  readonly correlation: {
    readonly x: number[];
    readonly y: number[];
    readonly pearson: number;
    readonly pearsonInterval: readonly [number, number];
    readonly spearman: number;
    readonly kendall: number;
    readonly ranks: number[];
  };
  readonly signFlip: readonly { readonly differences: number[]; readonly p: number }[];
  readonly bca: { readonly values: number[]; readonly interval: readonly [number, number] };
  readonly wilson: readonly { readonly successes: number; readonly trials: number; readonly interval: readonly [number, number] }[];
}

/** See scipy-figures.py. */
export function loadFigures(): Figures {
  return JSON.parse(readFileSync(join(import.meta.dirname, "scipy-figures.json"), "utf8")) as Figures;
}

/** Above 0, below 1. */
export function uniform(random: CounterRandom): number {
  return (random.uint32() + 0.5) / 2 ** 32;
}

/** Standard normal (Box and Muller). */
export function gaussian(random: CounterRandom): number {
  return Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * uniform(random));
}

/** An index with the given probabilities. */
export function choose(probabilities: readonly number[], random: CounterRandom): number {
  let left = uniform(random);
  const index = probabilities.findIndex((probability) => {
    left -= probability;
    return left < 0;
  });
  return index < 0 ? probabilities.length - 1 : index;
}
