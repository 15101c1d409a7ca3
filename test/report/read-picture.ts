/** Reads a drawn figure back, as a reader sees it: panels, lines, markers, bars, legend, axes. */
import { DOMParser } from "linkedom";

interface Node {
  readonly localName: string;
  readonly textContent: string;
  readonly children: Iterable<Node>;
  getAttribute(name: string): string | null;
  querySelectorAll(selector: string): Iterable<Node>;
}

export type Position = readonly [x: number, y: number];

export interface ReadPanel {
  readonly title: string;
  /** Condition by condition: the parts of its line, vertex by vertex. */
  readonly lines: Readonly<Record<string, readonly (readonly Position[])[]>>;
  /** By class, such as "point-english": where its marks are, in units of the panel. */
  readonly marks: Readonly<Record<string, readonly Position[]>>;
  readonly bars: Readonly<
    Record<string, readonly { readonly x: number; readonly y: number; readonly width: number; readonly height: number }[]>
  >;
  /** Upper and lower end of each. */
  readonly whiskers: Readonly<Record<string, readonly (readonly [top: number, bottom: number])[]>>;
  readonly xTicks: readonly string[];
  readonly yTicks: readonly string[];
  /** Each tick's label and height, in units of the panel. */
  readonly yAxis: readonly (readonly [label: string, y: number])[];
}

export interface ReadPicture {
  readonly attributes: (name: string) => string | null;
  readonly title: string;
  readonly panels: readonly ReadPanel[];
  readonly legend: readonly string[];
  /** Classes of the legend's samples. */
  readonly keys: readonly string[];
  readonly xLabel: string;
  readonly yLabel: string;
  readonly notes: readonly string[];
  /** Every text with its font size, its own or the nearest ancestor's. */
  readonly fontSizes: readonly number[];
}

export function readPicture(svg: string): ReadPicture {
  const document = new DOMParser().parseFromString(svg, "image/svg+xml") as unknown as { readonly documentElement: Node };
  const root = document.documentElement;
  const texts = (selector: string, of: Node = root): string[] => [...of.querySelectorAll(selector)].map(({ textContent }) => textContent);
  return {
    attributes: (name) => root.getAttribute(name),
    title: texts("text.title").join(),
    panels: [...root.querySelectorAll("g.panel")].map(readPanel),
    legend: texts("g.legend g.legend-label text"),
    keys: [...root.querySelectorAll("g.legend [class^=key-]")].map((node) => node.getAttribute("class")!),
    ...{ xLabel: texts("text.x-label").join(), yLabel: texts("text.y-label").join(), notes: texts("text.note") },
    fontSizes: fontSizesIn(root, Number.NaN),
  };
}

function fontSizesIn(node: Node, inherited: number): number[] {
  const size = Number(node.getAttribute("font-size") ?? inherited);
  return node.localName === "text" ? [size] : [...node.children].flatMap((child) => fontSizesIn(child, size));
}

function readPanel(panel: Node): ReadPanel {
  const lines: Record<string, Position[][]> = {};
  const marks: Record<string, Position[]> = {};
  const bars: Record<string, ReadPanel["bars"][string]> = {};
  const whiskers: Record<string, (readonly [number, number])[]> = {};
  for (const group of panel.querySelectorAll("g")) {
    const name = group.getAttribute("class") ?? "";
    const [dx] = translation(group);
    const [kind, ...condition] = name.split("-");
    const children = [...group.children];
    if (kind === "line") lines[condition.join("-")] = children.flatMap((path) => partsOf(path.getAttribute("d")!, dx));
    else if (kind === "bar") bars[condition.join("-")] = children.map(rectangle);
    else if (kind === "whisker" && children.length > 0) whiskers[condition.join("-")] = children.map(endsOf);
    else if (/^(point|incomplete|zero|missing)-/.test(name)) marks[name] = children.map((mark) => placeOf(mark, dx));
  }
  const labels = (axis: string): Node[] => [...panel.querySelectorAll(`[aria-label="${axis}-axis tick label"] text`)];
  const ticks = (axis: string): string[] =>
    labels(axis)
      .map(({ textContent }) => textContent)
      .filter(Boolean);
  const yAxis = labels("y").map((label) => [label.textContent, translation(label)[1]] as const);
  const [title] = [...panel.querySelectorAll("text.panel-title")].map(({ textContent }) => textContent);
  return { title: title!, lines, marks, bars, whiskers, xTicks: ticks("x"), yTicks: ticks("y"), yAxis };
}

function translation(node: Node): Position {
  const [, x, y] = /translate\(([-\d.]+),([-\d.]+)\)/.exec(node.getAttribute("transform") ?? "") ?? [];
  return [Number(x ?? 0), Number(y ?? 0)];
}

function partsOf(path: string, dx: number): Position[][] {
  const vertex = /([-\d.]+),([-\d.]+)/g;
  const parts = path.split("M").slice(1);
  return parts.map((part) => [...part.matchAll(vertex)].map(([, x, y]) => [Number(x) + dx, Number(y)] as const));
}

/** Plot draws round dots as circles, others as paths that are moved to their place. */
function placeOf(mark: Node, dx: number): Position {
  if (mark.localName === "circle") return [Number(mark.getAttribute("cx")) + dx, Number(mark.getAttribute("cy"))];
  const [x, y] = translation(mark);
  return [x + dx, y];
}

function rectangle(rect: Node) {
  const number = (name: string): number => Number(rect.getAttribute(name));
  return { x: number("x"), y: number("y"), width: number("width"), height: number("height") };
}

function endsOf(line: Node): readonly [number, number] {
  const ends = ["y1", "y2"].map((name) => Number(line.getAttribute(name)));
  return [Math.min(...ends), Math.max(...ends)];
}
