/**
 * How conditions look: each by colour, marker, dash and filling, so that colour-blind readers and grey print lose nothing.
 * Colours: Okabe and Ito, "Color Universal Design" (2008), without their yellow, which is too faint for lines on white.
 */
import { conditions } from "../budget/mix-settings.js";
import { PolypacaError } from "../errors.js";
import type { Figure } from "./figure.js";
import { untuned } from "./model-catalog.js";

export interface ConditionStyle {
  readonly color: string;
  /** A symbol's name in Observable Plot. */
  readonly marker: "circle" | "square" | "triangle" | "diamond" | "star" | "wye" | "cross";
  /** stroke-dasharray. */
  readonly dash: string;
  /** Of bars. */
  readonly filling: "solid" | "rising" | "dots" | "grid" | "none" | "falling" | "level";
}

const styles: readonly ConditionStyle[] = [
  { color: "#0072B2", marker: "circle", dash: "none", filling: "solid" },
  { color: "#D55E00", marker: "square", dash: "7 2.5", filling: "rising" },
  { color: "#009E73", marker: "triangle", dash: "1.5 2.5", filling: "dots" },
  { color: "#E69F00", marker: "diamond", dash: "8 2.5 2 2.5", filling: "grid" },
  { color: "#000000", marker: "star", dash: "3.5 2.5", filling: "none" },
  { color: "#CC79A7", marker: "wye", dash: "12 3", filling: "falling" },
  { color: "#56B4E9", marker: "cross", dash: "10 2 1.5 2 1.5 2", filling: "level" },
];

const named: readonly string[] = [...conditions, untuned];

/** The order of lines, bars and legends: the study's conditions, untuned models, others by name. */
export function orderConditions(names: Iterable<string>): string[] {
  const present = [...new Set(names)];
  const others = present.filter((condition) => !named.includes(condition)).sort();
  return [...named.filter((condition) => present.includes(condition)), ...others];
}

/**
 * The study's conditions look the same in every figure, whichever are there.
 *
 * @param names all conditions of the evaluation
 * @throws PolypacaError `UNSUPPORTED` for more conditions than can be told apart
 */
export function conditionStyles(names: Iterable<string>): ReadonlyMap<string, ConditionStyle> {
  const others = orderConditions(names).filter((condition) => !named.includes(condition));
  const all = [...named, ...others];
  if (all.length > styles.length) {
    const message = `${others.length} conditions besides the study's (${others.join(", ")}): figures can tell ${styles.length - named.length} apart. Draw fewer at a time.`;
    throw new PolypacaError("UNSUPPORTED", message);
  }
  return new Map(all.map((condition, index) => [condition, styles[index]!]));
}

/** The conditions that figures show, in order. */
export function conditionsIn(figures: readonly Figure[]): string[] {
  return orderConditions(figures.flatMap(({ panels }) => panels.flatMap(({ series }) => series.map(({ condition }) => condition))));
}
