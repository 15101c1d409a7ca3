/** Values of systems, and their mean over training seeds. */
import { PolypacaError } from "../errors.js";
import { groupBy } from "../evaluate/group-by.js";
import type { Interval } from "../evaluate/statistics/interval.js";
import { meanOf } from "../evaluate/statistics/mean.js";
import type { Point } from "./figure.js";
import type { DescribedSystem } from "./model-catalog.js";

export interface Measure {
  readonly value: number;
  readonly interval: Interval | null;
  readonly isIncomplete: boolean;
}

/** Null: the system has none. */
export type MeasureOf = (system: DescribedSystem) => Measure | null;

export function scoreIn(language: string): MeasureOf {
  return ({ languages }) => {
    if (!Object.hasOwn(languages, language)) return null;
    const { score, interval, incomplete } = languages[language]!;
    return { value: score, interval, isIncomplete: incomplete > 0 };
  };
}

export function robustnessOver(seenLanguages: readonly string[]): MeasureOf {
  return ({ languages, robustness, robustnessInterval }) => {
    if (robustness === null) return null;
    const isIncomplete = Object.entries(languages).some(([language, cell]) => seenLanguages.includes(language) && cell.incomplete > 0);
    return { value: robustness, interval: robustnessInterval, isIncomplete };
  };
}

/**
 * The point of systems that differ in their training seed alone: one system's value with its interval, or the mean of several with their
 * range, since their intervals say nothing of training seeds.
 */
export function pointAt(x: number, systems: readonly DescribedSystem[], measureOf: MeasureOf): Point {
  const measures = systems.map(measureOf).filter((measure) => measure !== null);
  const isIncomplete = measures.some((measure) => measure.isIncomplete);
  if (measures.length === 0) return { x, value: null, low: null, high: null, isIncomplete };
  const values = measures.map(({ value }) => value);
  const [low, high] = values.length > 1 ? [Math.min(...values), Math.max(...values)] : (measures[0]!.interval ?? [null, null]);
  return { x, value: meanOf(values), low, high, isIncomplete };
}

/** @throws PolypacaError `BAD_DATA` for systems that would stand at one place though they are no runs of different seeds */
export function refuseRivals(systems: readonly DescribedSystem[]): void {
  const places = groupBy(systems, ({ family, parameters, method, condition }) => JSON.stringify([family, parameters, method, condition]));
  for (const rivals of places.values()) {
    const [first, ...others] = rivals;
    const seeds = new Set(rivals.map(({ seed }) => seed));
    const isOneModel = others.every(({ model }) => model === first!.model);
    if (isOneModel && (others.length === 0 || (seeds.size === rivals.length && !seeds.has(null)))) continue;
    const names = rivals
      .map(({ system, model, seed }) => `${JSON.stringify(system)} (model ${model}, seed ${seed ?? "unknown"})`)
      .join(", ");
    const { family, method, condition } = first!;
    const advice = "Leave out all but one, or tell them apart with --models: another condition, or another family for another model.";
    const message = `${names}: all are ${family} of one size, ${method}, ${condition}, and not one model with different seeds. ${advice}`;
    throw new PolypacaError("BAD_DATA", message);
  }
}
