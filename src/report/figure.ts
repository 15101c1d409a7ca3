/** What a figure is, before it is drawn. */
import type { AxisScale } from "./axis-ends.js";

export interface Figure {
  /** Stem of its files. */
  readonly name: string;
  readonly title: string;
  /** Bars stand at whole numbers. */
  readonly form: "lines" | "bars";
  readonly x: { readonly label: string };
  /** Shared by the panels. On a log scale, zero is drawn at `low`. */
  readonly y: AxisScale & { readonly label: string; readonly scale: "linear" | "log" };
  readonly panels: readonly Panel[];
  /** Below the panels. */
  readonly notes: readonly string[];
}

export interface Panel {
  readonly title: string;
  /** Ascending. */
  readonly ticks: readonly { readonly at: number; readonly label: string }[];
  /** One per condition, in the order of the legend. */
  readonly series: readonly Series[];
}

export interface Series {
  readonly condition: string;
  /** One per tick. */
  readonly points: readonly Point[];
}

export interface Point {
  readonly x: number;
  /** Null: there is none, which interrupts a line. */
  readonly value: number | null;
  readonly low: number | null;
  readonly high: number | null;
  /** A lower bound: not all was judged. */
  readonly isIncomplete: boolean;
}
