/** A document to draw SVG in, without a browser. */
import { parseHTML } from "linkedom";

/** The little of the DOM that drawing needs; the compiler's own DOM types would let browser globals into the whole project. */
export interface SvgNode {
  readonly childNodes: readonly SvgNode[];
  readonly localName: string;
  readonly outerHTML: string;
  textContent: string;
  append(...nodes: readonly SvgNode[]): void;
  setAttribute(name: string, value: string): void;
}

interface DomDocument {
  createElementNS(namespace: string, name: string): SvgNode;
}

export type Attributes = Readonly<Record<string, string | number>>;

const svgNamespace = "http://www.w3.org/2000/svg";

export class SvgDocument {
  /** For Observable Plot. */
  readonly document: DomDocument;

  constructor() {
    this.document = parseHTML("<!doctype html><html><body></body></html>").document as unknown as DomDocument;
  }

  node(name: string, attributes: Attributes, ...children: readonly SvgNode[]): SvgNode {
    const node = this.document.createElementNS(svgNamespace, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
    node.append(...children);
    return node;
  }

  text(content: string, attributes: Attributes): SvgNode {
    const node = this.node("text", attributes);
    node.textContent = printable(content);
    return node;
  }

  /** A whole picture with its title for screen readers, as XML. Coordinates keep two decimals: more are invisible, and differ by machine. */
  picture(attributes: Attributes, title: string, children: readonly SvgNode[]): string {
    const name = this.node("title", {});
    name.textContent = printable(title);
    const svg = this.node("svg", { xmlns: svgNamespace, role: "img", ...attributes }, name, ...children);
    // In tags alone: text is printed as it is.
    const rounded = svg.outerHTML.replaceAll(/<[^>]*>/g, (tag) => tag.replaceAll(/-?\d+\.\d{3,}(?:e-?\d+)?/g, twoDecimals));
    return `<?xml version="1.0" encoding="UTF-8"?>\n${rounded}\n`;
  }
}

function twoDecimals(number: string): string {
  return String(Math.round(Number(number) * 100) / 100 + 0); // + 0: no "-0"
}

/** XML has no place for control characters. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ");
}

/** What Observable Plot has drawn, without its rules for browsers, whose selectors converters do not know. */
export function marksOf(plotted: unknown): readonly SvgNode[] {
  return (plotted as SvgNode).childNodes.filter(({ localName }) => localName !== "style");
}
