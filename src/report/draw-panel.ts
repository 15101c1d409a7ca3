/** The marks of one panel, for Observable Plot: axes, lines with markers or bars, whiskers, and what is marked as incomplete or zero. */
import * as Plot from "@observablehq/plot";
import type { ConditionStyle } from "./condition-styles.js";
import type { Figure, Panel, Point } from "./figure.js";
import type { SvgDocument, SvgNode } from "./svg-document.js";
import { shorten, textWidth } from "./text-width.js";

/** Of a panel with its margins, in units of the picture. */
export interface PanelFrame {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export type Styles = ReadonlyMap<string, ConditionStyle>;

/** Scales and marks of a panel. */
export type PanelOptions = Pick<Plot.PlotOptions, "x" | "y" | "marks">;

/** @param conditions those of the whole figure: a condition keeps its place beside the others in every panel */
export function panelOptions(figure: Figure, panel: Panel, frame: PanelFrame, conditions: readonly string[], styles: Styles): PanelOptions {
  const draw = figure.form === "lines" ? lines : bars;
  return draw(figure, panel, frame, conditions, styles);
}

const gridColor = "#d5d9de";
const noLabel = { label: null } as const;

/** Lines of different conditions are this many units apart, so that their whiskers do not cover each other. */
const lineOffset = 2.5;

function lines(figure: Figure, panel: Panel, frame: PanelFrame, conditions: readonly string[], styles: Styles): PanelOptions {
  const domain = sizeDomain(panel);
  const marks = panel.series.flatMap(({ condition, points }) => {
    const dx = lineOffset * (conditions.indexOf(condition) - (conditions.length - 1) / 2);
    return lineMarks(condition, points, figure.y, styles.get(condition)!, dx);
  });
  return {
    x: { type: "log", domain, ...noLabel },
    y: { type: figure.y.scale, domain: [figure.y.low, figure.y.high], ...noLabel },
    marks: [...axes(figure, sizeLabels(panel, domain, frame), 10), ...marks],
  };
}

/** Before the first and after the last size, as a share of the distance between them. */
const sizePadding = 0.05;

function sizeDomain({ ticks }: Panel): readonly [number, number] {
  const [first, last] = [ticks[0]!.at, ticks.at(-1)!.at];
  const padding = (last / first) ** sizePadding;
  return [first / padding, last * padding];
}

/** Labels by tick; none where there is no room: the largest comes first, then from the smallest on. */
function sizeLabels(
  { ticks }: Panel,
  [low, high]: readonly [number, number],
  { width, left, right }: PanelFrame,
): ReadonlyMap<number, string> {
  const placed: { readonly at: number; readonly from: number; readonly to: number }[] = [];
  for (const { at, label } of [ticks.at(-1)!, ...ticks.slice(0, -1)]) {
    const center = (Math.log(at / low) / Math.log(high / low)) * (width - left - right);
    const half = textWidth(label, 10) / 2 + 1.5;
    const [from, to] = [center - half, center + half];
    if (placed.every((other) => to <= other.from || from >= other.to)) placed.push({ at, from, to });
  }
  const labelled = new Set(placed.map(({ at }) => at));
  return new Map(ticks.map(({ at, label }) => [at, labelled.has(at) ? label : ""]));
}

/** Labels are given as text: d3 thins out the labels of log scales by rules of its own. */
function axes(figure: Figure, labels: ReadonlyMap<number, string>, fontSize: number): Plot.Markish[] {
  const { low, ticks: yTicks } = figure.y;
  const zeros = hasZeros(figure);
  return [
    Plot.gridY(yTicks, { stroke: gridColor, strokeOpacity: 1 }),
    Plot.axisY(yTicks, { text: (value: number) => (value === low && zeros ? "0" : String(value)), tickSize: 3, ...noLabel }),
    Plot.axisX([...labels.keys()], { text: (at: number) => labels.get(at)!, tickSize: 3, fontSize, ...noLabel }),
    Plot.ruleY([low], { strokeWidth: 1, className: "x-line" }),
  ];
}

/** Whether something is drawn at the floor of a log axis. */
export function hasZeros({ y, panels }: Figure): boolean {
  return y.scale === "log" && panels.some(({ series }) => series.some(({ points }) => points.some(({ value }) => value === 0)));
}

function lineMarks(condition: string, points: readonly Point[], { scale, low }: Figure["y"], style: ConditionStyle, dx: number) {
  const lift = (value: number | null): number | null => (value === null || scale === "linear" ? value : Math.max(value, low));
  const drawn = points.map((point) => ({ ...point, value: lift(point.value), low: lift(point.low), high: lift(point.high) }));
  const zeros = scale === "log" ? drawn.filter((_, index) => points[index]!.value === 0) : [];
  const place = { x: "x", y: "value", dx } as const;
  const name = classOf(condition);
  return [
    Plot.ruleX(drawn.filter(hasInterval), { x: "x", y1: "low", y2: "high", dx, ...whisker(style), className: `whisker-${name}` }),
    Plot.line(drawn, { ...place, ...stroke(style), className: `line-${name}` }),
    Plot.dot(
      drawn.filter((point) => point.value !== null && !point.isIncomplete),
      { ...place, ...marker(style), className: `point-${name}` },
    ),
    Plot.dot(
      drawn.filter((point) => point.value !== null && point.isIncomplete),
      {
        ...{ ...place, ...marker(style, "hollow"), className: `incomplete-${name}` },
      },
    ),
    Plot.dot(zeros, { ...place, ...zeroRing, className: `zero-${name}` }),
  ];
}

function hasInterval({ low, high }: Point): boolean {
  return low !== null && high !== null;
}

/** A condition's name as part of a class. */
export function classOf(condition: string): string {
  return condition.replaceAll(/[^\w-]+/g, "-");
}

export function stroke({ color, dash }: ConditionStyle) {
  return { stroke: color, strokeWidth: 1.6, strokeDasharray: dash, strokeLinecap: "butt" } as const;
}

export function marker({ color, marker: symbol }: ConditionStyle, form: "filled" | "hollow" = "filled") {
  return {
    symbol,
    r: 3.4,
    fill: form === "hollow" ? "#ffffff" : color,
    stroke: color,
    strokeWidth: form === "hollow" ? 1.4 : 0.5,
  } as const;
}

export const zeroRing = { symbol: "circle", r: 7, fill: "none", stroke: "#1f2933", strokeWidth: 1 } as const;

function whisker({ color }: ConditionStyle) {
  return { stroke: color, strokeWidth: 1, strokeOpacity: 0.8 } as const;
}

/** Share of the room of a group of bars that the bars take. */
const groupWidth = 0.84;

/** Labels of groups shrink where they have to, and are cut at the smallest size. */
function barLabels(
  { ticks }: Panel,
  { width, left, right }: PanelFrame,
): { readonly labels: ReadonlyMap<number, string>; readonly fontSize: number } {
  const room = (width - left - right) / ticks.length - 2;
  const widest = Math.max(...ticks.flatMap(({ label }) => label.split("\n").map((line) => textWidth(line, 1))));
  const fontSize = Math.max(8.5, Math.min(10, room / widest));
  const cut = (label: string): string => {
    const lines = label.split("\n");
    return lines.map((line) => shorten(line, room, fontSize)).join("\n");
  };
  return { labels: new Map(ticks.map(({ at, label }) => [at, cut(label)])), fontSize };
}

function bars(figure: Figure, panel: Panel, frame: PanelFrame, conditions: readonly string[], styles: Styles): PanelOptions {
  const width = groupWidth / conditions.length;
  const marks = panel.series.flatMap(({ condition, points }) => {
    const center = (x: number): number => x + width * (conditions.indexOf(condition) - (conditions.length - 1) / 2);
    const drawn = points.map((point) => ({
      ...point,
      center: center(point.x),
      x1: center(point.x) - width * 0.44,
      x2: center(point.x) + width * 0.44,
    }));
    return barMarks(figure, condition, drawn, styles.get(condition)!);
  });
  const { labels, fontSize } = barLabels(panel, frame);
  return {
    x: { type: "linear", domain: [-0.5, panel.ticks.length - 0.5], ...noLabel },
    y: { type: "linear", domain: [figure.y.low, figure.y.high], ...noLabel },
    marks: [...axes(figure, labels, fontSize), ...marks],
  };
}

interface Bar extends Point {
  readonly center: number;
  readonly x1: number;
  readonly x2: number;
}

function barMarks(figure: Figure, condition: string, drawn: readonly Bar[], style: ConditionStyle): Plot.Markish[] {
  const name = classOf(condition);
  const present = drawn.filter(({ value }) => value !== null);
  const above = { x: "center", y: (bar: Bar) => bar.high ?? bar.value, text: () => "*", dy: -4, fontSize: 12, fontWeight: "bold" } as const;
  const onAxis = { x: "center", y: () => figure.y.low, dy: -5 } as const;
  return [
    Plot.rectY(present, { ...{ x1: "x1", x2: "x2", y1: () => 0, y2: "value", className: `bar-${name}` }, ...barPaint(figure, style) }),
    Plot.ruleX(present.filter(hasInterval), { ...{ x: "center", y1: "low", y2: "high", strokeWidth: 1, className: `whisker-${name}` } }),
    Plot.text(
      present.filter(({ isIncomplete }) => isIncomplete),
      { ...above, className: `incomplete-${name}` },
    ),
    Plot.text(
      drawn.filter(({ value }) => value === null),
      { ...onAxis, text: () => "–", fontWeight: "bold", className: `missing-${name}` },
    ),
    Plot.text(
      present.filter((bar) => bar.value === 0 && !bar.isIncomplete && !hasInterval(bar)), // a bar without height, which is not a missing one
      { ...onAxis, text: () => "0", className: `zero-${name}` },
    ),
  ];
}

export function barPaint(figure: Figure, { color, filling }: ConditionStyle) {
  const fill = filling === "solid" ? color : filling === "none" ? "#ffffff" : `url(#${patternId(figure, filling)})`;
  return { fill, stroke: color, strokeWidth: 1 } as const;
}

type Filling = ConditionStyle["filling"];

/** Pictures may stand in one page: a pattern's name holds its figure's. */
function patternId(figure: Figure, filling: Filling): string {
  return `${figure.name}-${filling}`;
}

/** What is drawn in a square of 5 units; null: no pattern is needed. */
const patternPaths: Readonly<Record<Filling, string | null>> = {
  ...{ solid: null, none: null },
  rising: "M-1,1L1,-1M0,5L5,0M4,6L6,4",
  falling: "M-1,4L1,6M0,0L5,5M4,-1L6,1",
  dots: "M1.3,2.5a1.2,1.2 0 1 0 2.4,0a1.2,1.2 0 1 0 -2.4,0",
  grid: "M0,2.5H5M2.5,0V5",
  level: "M0,2.5H5",
};

/** The pattern that fills a condition's bars; null where none is needed. */
export function barPattern(svg: SvgDocument, figure: Figure, { color, filling }: ConditionStyle): SvgNode | null {
  const path = patternPaths[filling];
  if (path === null) return null;
  const size = { width: 5, height: 5, patternUnits: "userSpaceOnUse" };
  const paint = filling === "dots" ? { fill: color } : { fill: "none", stroke: color, "stroke-width": 1.3 };
  const white = svg.node("rect", { width: 5, height: 5, fill: "#ffffff" });
  return svg.node("pattern", { id: patternId(figure, filling), ...size }, white, svg.node("path", { d: path, ...paint }));
}
