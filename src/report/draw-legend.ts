/** The legend of a figure, inside it: what lines, bars and marks mean. */
import * as Plot from "@observablehq/plot";
import { barPaint, classOf, hasZeros, marker, type Styles, stroke, zeroRing } from "./draw-panel.js";
import type { Figure } from "./figure.js";
import { marksOf, type SvgDocument, type SvgNode } from "./svg-document.js";
import { textWidth } from "./text-width.js";

interface Entry {
  readonly label: string;
  /** Marks with their left end at x and their middle at y. */
  readonly sample: (x: number, y: number) => Plot.Markish[];
}

const sampleWidth = 34;
const rowHeight = 17;
const fontSize = 11;
/** Between entries. */
const gap = 16;

/** Entries flow into rows of `width`. */
export function drawLegend(
  svg: SvgDocument,
  figure: Figure,
  conditions: readonly string[],
  styles: Styles,
  { x, y, width }: { readonly x: number; readonly y: number; readonly width: number },
): { readonly node: SvgNode; readonly height: number } {
  const places: { readonly entry: Entry; readonly x: number; readonly y: number }[] = [];
  let [left, middle] = [0, rowHeight / 2];
  for (const entry of [...conditions.map((condition) => conditionEntry(figure, condition, styles)), ...markEntries(figure)]) {
    const entryWidth = sampleWidth + 6 + textWidth(entry.label, fontSize);
    if (left > 0 && left + entryWidth > width) [left, middle] = [0, middle + rowHeight];
    places.push({ entry, x: left, y: middle });
    left += entryWidth + gap;
  }
  const height = middle + rowHeight / 2;
  const labels = Plot.text(places, {
    ...{ x: (place) => place.x + sampleWidth + 6, y: "y", text: (place) => place.entry.label, textAnchor: "start", fontSize },
    className: "legend-label",
  });
  const plotted = Plot.plot({
    ...{ document: svg.document, className: "plot", width, height, margin: 0 },
    ...{ x: { type: "identity" }, y: { type: "identity" }, axis: null },
    marks: [...places.flatMap((place) => place.entry.sample(place.x, place.y)), labels],
  });
  const inherited = { "font-size": fontSize, "text-anchor": "middle" };
  return { node: svg.node("g", { class: "legend", transform: `translate(${x},${y})`, ...inherited }, ...marksOf(plotted)), height };
}

function conditionEntry(figure: Figure, condition: string, styles: Styles): Entry {
  const style = styles.get(condition)!;
  const className = `key-${classOf(condition)}`;
  const line = (x: number, y: number): Plot.Markish[] => [
    Plot.line([[x, y], [x + sampleWidth, y]], { ...stroke(style), className }), // biome-ignore format: two points
    Plot.dot([[x + sampleWidth / 2, y]], marker(style)),
  ];
  const bar = (x: number, y: number): Plot.Markish[] => [
    Plot.rect([0], { x1: x + 8, x2: x + sampleWidth, y1: y - 6, y2: y + 6, ...barPaint(figure, style), className }),
  ];
  return { label: condition, sample: figure.form === "lines" ? line : bar };
}

/** Marks other than the conditions', where the figure has them. */
function markEntries(figure: Figure): Entry[] {
  const points = figure.panels.flatMap(({ series }) => series.flatMap((one) => one.points));
  const entries: Entry[] = [];
  const middle = (x: number): number => x + sampleWidth / 2 + 6;
  if (points.some(({ value, isIncomplete }) => value !== null && isIncomplete)) {
    const hollow = { symbol: "circle", r: 3.4, fill: "#ffffff", stroke: "#1f2933", strokeWidth: 1.4, className: "key-incomplete" } as const;
    const star = { text: () => "*", fontSize: 12, fontWeight: "bold", dy: 2, className: "key-incomplete" } as const;
    entries.push({
      label: `${figure.form === "lines" ? "hollow: " : ""}incomplete, a lower bound`,
      sample: (x, y) => [figure.form === "lines" ? Plot.dot([[middle(x), y]], hollow) : Plot.text([[middle(x), y]], star)],
    });
  }
  if (hasZeros(figure)) {
    const ring = { ...zeroRing, className: "key-zero" } as const;
    entries.push({ label: "zero, drawn at the axis floor", sample: (x, y) => [Plot.dot([[middle(x), y]], ring)] });
  }
  if (figure.form === "bars" && points.some(({ value }) => value === null)) {
    const dash = { text: () => "–", className: "key-missing" } as const;
    entries.push({ label: "no score", sample: (x, y) => [Plot.text([[middle(x), y]], dash)] });
  }
  return entries;
}
