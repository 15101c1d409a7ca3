/** The little SVG that charts need: elements as strings, text escaped. */

export type SvgAttributes = Readonly<Record<string, string | number>>;

/** Coordinates keep two decimals: more are invisible and make files differ. */
export function element(name: string, attributes: SvgAttributes, ...children: readonly string[]): string {
  const list = Object.entries(attributes).map(([key, value]) => ` ${key}="${escapeXml(typeof value === "number" ? round(value) : value)}"`);
  return children.length === 0 ? `<${name}${list.join("")}/>` : `<${name}${list.join("")}>${children.join("")}</${name}>`;
}

export function text(content: string, attributes: SvgAttributes): string {
  return element("text", attributes, escapeXml(content));
}

/** A whole picture on a light background, readable in dark pages too. */
export function picture(size: { readonly width: number; readonly height: number }, title: string, children: readonly string[]): string {
  const { width, height } = size;
  const attributes = {
    ...{ xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" },
    "font-family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif",
  };
  const background = element("rect", { class: "background", x: 0, y: 0, width, height, rx: 8, fill: "#ffffff" });
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element("svg", attributes, element("title", {}, escapeXml(title)), background, ...children)}\n`;
}

function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function escapeXml(value: string): string {
  return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
