/** Draws a figure as SVG: title, legend, panels, axis names, notes, for a page of a paper 160 mm wide. */
import * as Plot from "@observablehq/plot";
import { conditionStyles, conditionsIn } from "./condition-styles.js";
import { drawLegend } from "./draw-legend.js";
import { barPattern, type PanelFrame, panelOptions, type Styles } from "./draw-panel.js";
import type { Figure } from "./figure.js";
import { marksOf, SvgDocument, type SvgNode } from "./svg-document.js";
import { shorten, wrapText } from "./text-width.js";

/** Units of a picture; 4 are a millimetre in print, so that 10 units of text are 7 points. */
const page = { width: 640, perMillimetre: 4, margin: 6, title: 13, text: 11, small: 10, noteLine: 13 };

/** Below the top of the page: baseline of the title, top of the legend. Below the panels: the x axis's name, the first note. */
const heights = { title: 18, legend: 26, xLabel: 11, notes: 30 };

const ink = "#1f2933";

/** DejaVu Sans is the widest of these, and the layout is made for it. */
const fonts = "'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif";

/**
 * @param conditions all conditions of the evaluation, so that each looks alike in all its figures; default: those of the figure
 * @returns an SVG document that names no font file and refers to nothing outside; the same bytes for the same figure
 * @throws PolypacaError `UNSUPPORTED` for more conditions than can be told apart
 */
export function drawFigure(figure: Figure, conditions: readonly string[] = conditionsIn([figure])): string {
  const svg = new SvgDocument();
  const styles = conditionStyles(conditions);
  const drawn = conditionsIn([figure]);
  const width = page.width - 2 * page.margin;
  const patterns = drawn.map((condition) => barPattern(svg, figure, styles.get(condition)!)).filter((pattern) => pattern !== null);
  const definitions = figure.form === "bars" && patterns.length > 0 ? [svg.node("defs", {}, ...patterns)] : [];
  const legend = drawLegend(svg, figure, drawn, styles, { x: page.margin, y: heights.legend, width });
  const grid = gridOf(figure, heights.legend + legend.height + 4);
  const panels = figure.panels.map((_, index) => drawPanel(svg, figure, index, grid, drawn, styles));
  const bottom = grid.top + grid.rows * grid.height;
  const lines = figure.notes.flatMap((note) => wrapText(note, width, page.small));
  const height = Math.ceil(bottom + heights.notes + lines.length * page.noteLine) - 5;
  const notes = lines.map((line, index) =>
    svg.text(line, {
      class: "note",
      x: page.margin,
      y: bottom + heights.notes + index * page.noteLine,
      "font-size": page.small,
      fill: "#3e4c59",
    }),
  );
  const paper = svg.node("rect", { class: "paper", x: 0, y: 0, width: page.width, height, fill: "#ffffff" });
  const size = { width: `${page.width / page.perMillimetre}mm`, height: `${height / page.perMillimetre}mm` };
  const attributes = { ...size, viewBox: `0 0 ${page.width} ${height}`, "font-family": fonts, fill: ink, color: ink };
  const names = drawNames(svg, figure, grid);
  return svg.picture(attributes, figure.title, [...definitions, paper, legend.node, ...panels, ...names, ...notes]);
}

/** Title and axis names. */
function drawNames(svg: SvgDocument, figure: Figure, { top, rows, height }: Grid): SvgNode[] {
  const bottom = top + rows * height;
  const title = shorten(figure.title, page.width - 2 * page.margin, page.title);
  const centered = { "text-anchor": "middle", "font-size": page.text };
  const place = `translate(${page.margin + 9},${(top + bottom) / 2}) rotate(-90)`;
  return [
    svg.text(title, { class: "title", x: page.margin, y: heights.title, "font-size": page.title, "font-weight": "bold" }),
    svg.text(figure.y.label, { class: "y-label", transform: place, ...centered }),
    svg.text(figure.x.label, { class: "x-label", x: page.width / 2, y: bottom + heights.xLabel, ...centered }),
  ];
}

/** How panels are laid out, row by row. */
interface Grid {
  readonly top: number;
  readonly columns: number;
  readonly rows: number;
  /** Of a panel with its axes. */
  readonly width: number;
  readonly height: number;
}

/** Left of the panels: the name of the y axis. */
const yLabelWidth = 20;

function gridOf({ form, panels }: Figure, top: number): Grid {
  const count = panels.length;
  const groups = Math.max(...panels.map(({ ticks }) => ticks.length));
  const columns = form === "bars" ? barColumns(count, groups) : count === 1 ? 1 : count === 2 || count === 4 ? 2 : 3;
  const height = columns === 1 ? (count > 3 ? 130 : 230) : columns === 2 ? 175 : 165;
  return { top, columns, rows: Math.ceil(count / columns), width: (page.width - page.margin - yLabelWidth) / columns, height };
}

/** Groups of bars need room for their labels. */
function barColumns(panels: number, groups: number): 1 | 2 | 3 {
  if (panels === 1 || groups > 5) return 1;
  return groups > 2 || panels === 2 || panels === 4 ? 2 : 3;
}

function drawPanel(svg: SvgDocument, figure: Figure, index: number, grid: Grid, conditions: readonly string[], styles: Styles): SvgNode {
  const panel = figure.panels[index]!;
  const { width, height } = grid;
  const frame: PanelFrame = { width, height, left: 30, right: 6, top: 20, bottom: figure.form === "bars" ? 36 : 26 };
  const plotted = Plot.plot({
    ...{ document: svg.document, className: "plot", width, height },
    ...{ marginLeft: frame.left, marginRight: frame.right, marginTop: frame.top, marginBottom: frame.bottom },
    ...panelOptions(figure, panel, frame, conditions, styles),
  });
  const x = yLabelWidth + (index % grid.columns) * width;
  const y = grid.top + Math.floor(index / grid.columns) * height;
  const title = { class: "panel-title", x: frame.left, y: 13, "text-anchor": "start", "font-size": page.text, "font-weight": "bold" };
  const inherited = { "font-size": page.small, "text-anchor": "middle" };
  return svg.node(
    "g",
    { class: "panel", transform: `translate(${x},${y})`, ...inherited },
    svg.text(shorten(panel.title, width - frame.left, page.text), title),
    ...marksOf(plotted),
  );
}
