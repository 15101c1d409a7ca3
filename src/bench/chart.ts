/** Bar and line charts as SVG groups: a panel each, placed by its caller. Pure: data in, text out. */
import { element, text } from "./svg.js";

export interface Area {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Series {
  readonly name: string;
  readonly color: string;
}

export interface BarGroup {
  /** Lines below the group. */
  readonly labels: readonly string[];
  readonly bars: readonly { readonly series: Series; readonly value: number }[];
}

export interface Line {
  readonly series: Series;
  /** Ascending in x; low and high draw a whisker. */
  readonly points: readonly { readonly x: number; readonly y: number; readonly low?: number; readonly high?: number }[];
}

const ink = { strong: "#1f2933", soft: "#616e7c", grid: "#e4e7eb" };
const widestBar = 44;

/** Bars in groups, each with its value above. */
export function barPanel(title: string, groups: readonly BarGroup[], area: Area): string {
  const top = Math.max(...groups.flatMap(({ bars }) => bars.map(({ value }) => value)));
  const scale = scaleTo(top, area);
  const slot = area.width / groups.length;
  const drawn = groups.flatMap(({ labels, bars }, i) => {
    const width = Math.min(widestBar, (slot * 0.82) / bars.length);
    const center = area.x + slot * (i + 0.5);
    const left = center - (width * bars.length) / 2;
    return [
      ...bars.flatMap(({ series, value }, j) => bar(value, series, { x: left + j * width, width: width - 3 }, scale)),
      ...labels.map((label, line) =>
        text(label, { x: center, y: area.y + area.height + 18 + 15 * line, ...labelStyle(line), "text-anchor": "middle" }),
      ),
    ];
  });
  return element("g", {}, ...frame(title, area, scale), ...drawn);
}

function bar(value: number, series: Series, { x, width }: { readonly x: number; readonly width: number }, scale: Scale): string[] {
  const y = scale.y(value);
  const fontSize = width < 30 ? 9 : 11;
  return [
    element(
      "rect",
      { class: "bar", x, y, width, height: Math.max(0.5, scale.y(0) - y), rx: 2, fill: series.color },
      element("title", {}, `${series.name}: ${amount(value)}`),
    ),
    text(amount(value), { class: "value", x: x + width / 2, y: y - 4, "font-size": fontSize, fill: ink.strong, "text-anchor": "middle" }),
  ];
}

/** Lines over a numeric axis with a tick at every point. */
export function linePanel(title: string, xTitle: string, lines: readonly Line[], area: Area): string {
  const xs = [...new Set(lines.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const scale = scaleTo(Math.max(...lines.flatMap(({ points }) => points.map(({ y, high }) => high ?? y))), area);
  const right = xs.at(-1)!;
  const xOf = (x: number): number => area.x + 14 + (x / right) * (area.width - 28);
  const bottom = area.y + area.height;
  let labelled = Number.NEGATIVE_INFINITY;
  const ticks = xs.flatMap((x) => {
    const mark = element("line", { x1: xOf(x), x2: xOf(x), y1: bottom, y2: bottom + 4, stroke: ink.soft });
    if (xOf(x) - labelled < 34) return [mark]; // labels would touch
    labelled = xOf(x);
    return [mark, text(amount(x), { x: xOf(x), y: bottom + 18, "font-size": 11, fill: ink.soft, "text-anchor": "middle" })];
  });
  const drawn = lines.flatMap(({ series, points }) => [
    element("polyline", {
      ...{ class: "line", fill: "none", stroke: series.color, "stroke-width": 2.5, "stroke-linejoin": "round" },
      points: points.map(({ x, y }) => `${xOf(x).toFixed(1)},${scale.y(y).toFixed(1)}`).join(" "),
    }),
    ...points.flatMap(({ x, y, low = y, high = y }) => [
      element("line", {
        class: "whisker",
        x1: xOf(x),
        x2: xOf(x),
        y1: scale.y(low),
        y2: scale.y(high),
        stroke: series.color,
        "stroke-width": 1.5,
      }),
      element(
        "circle",
        { class: "point", cx: xOf(x), cy: scale.y(y), r: 4, fill: series.color },
        element("title", {}, `${series.name}, ${amount(x)}: ${amount(y)}`),
      ),
    ]),
  ]);
  const axis = text(xTitle, { x: area.x + area.width / 2, y: bottom + 36, "font-size": 12, fill: ink.soft, "text-anchor": "middle" });
  return element("g", {}, ...frame(title, area, scale), ...ticks, axis, ...drawn, ...lastValues(lines, xOf, scale));
}

/** Each line's last value, at its end: above the line that ends highest, below the one that ends lowest, so that they do not cover each other. */
function lastValues(lines: readonly Line[], xOf: (x: number) => number, scale: Scale): string[] {
  const ends = lines
    .flatMap(({ series, points }) => points.slice(-1).map((point) => ({ series, point })))
    .sort((a, b) => b.point.y - a.point.y);
  return ends.map(({ series, point }, rank) => {
    const style = { "font-size": 11, "font-weight": 600, fill: series.color, "text-anchor": "end" };
    return text(amount(point.y), {
      class: "value",
      x: xOf(point.x) + 8,
      y: scale.y(point.y) + (rank === 0 ? -9 : 6 + 13 * rank),
      ...style,
    });
  });
}

const legendRow = 20;

/** Squares with names, in rows from (x, y) on that end before `right`; `height` is what further rows take below the first. */
export function legend(series: readonly Series[], x: number, y: number, right: number): { readonly svg: string; readonly height: number } {
  let at = { x, y };
  const items = series.flatMap(({ name, color }) => {
    const width = 34 + 6.8 * name.length;
    if (at.x > x && at.x + width > right) at = { x, y: at.y + legendRow };
    const square = element("rect", { class: "key", x: at.x, y: at.y - 10, width: 12, height: 12, rx: 2, fill: color });
    const label = text(name, { x: at.x + 18, y: at.y, "font-size": 12, fill: ink.strong });
    at = { ...at, x: at.x + width };
    return [square, label];
  });
  return { svg: element("g", {}, ...items), height: at.y - y };
}

export function heading(title: string, subtitles: readonly string[], x: number, y: number): string {
  const lines = subtitles.map((subtitle, i) => text(subtitle, { x, y: y + 20 + 17 * i, "font-size": 12, fill: ink.soft }));
  return element("g", {}, text(title, { x, y, "font-size": 18, "font-weight": 600, fill: ink.strong }), ...lines);
}

interface Scale {
  readonly ticks: readonly number[];
  readonly y: (value: number) => number;
}

/** From 0 to a round number above `top`, in four to six steps. */
function scaleTo(top: number, area: Area): Scale {
  const step = roundStep(top / 5);
  const count = Math.max(1, Math.ceil((top * 1.05) / step));
  const ticks = Array.from({ length: count + 1 }, (_, i) => i * step);
  return { ticks, y: (value) => area.y + area.height * (1 - value / (count * step)) };
}

/** 1, 2, 2.5 or 5 times a power of ten, at least `least`. */
function roundStep(least: number): number {
  if (!(least > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= least) ?? 10);
}

function frame(title: string, area: Area, scale: Scale): string[] {
  return [
    text(title, { x: area.x, y: area.y - 14, "font-size": 13, "font-weight": 600, fill: ink.strong }),
    ...scale.ticks.flatMap((tick) => [
      element("line", {
        x1: area.x,
        x2: area.x + area.width,
        y1: scale.y(tick),
        y2: scale.y(tick),
        stroke: tick === 0 ? ink.soft : ink.grid,
      }),
      text(amount(tick), { x: area.x - 8, y: scale.y(tick) + 4, "font-size": 11, fill: ink.soft, "text-anchor": "end" }),
    ]),
  ];
}

function labelStyle(line: number): { readonly "font-size": number; readonly fill: string } {
  return line === 0 ? { "font-size": 12, fill: ink.strong } : { "font-size": 11, fill: ink.soft };
}

function amount(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 });
}
