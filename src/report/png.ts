/** SVG to PNG, with a package that may not be installed. */
import { PolypacaError } from "../errors.js";

export type PngConverter = (svg: string) => Uint8Array;

/** 300 dots per inch for 160 mm. */
const pngWidth = 1890;

/**
 * Fonts are the system's: where it has none, pictures would lack their text.
 *
 * @throws PolypacaError `UNSUPPORTED` where the optional package is not installed, or has no build for this machine
 */
export async function openPngConverter(): Promise<PngConverter> {
  const { Resvg } = await import("@resvg/resvg-js").catch((cause: unknown) => {
    const reason = (cause as Error).message.split("\n")[0];
    const advice = "Install it beside polypaca (npm install @resvg/resvg-js), or leave out --png and convert the SVG files.";
    throw new PolypacaError("UNSUPPORTED", `PNG needs the optional package @resvg/resvg-js, which does not load (${reason}). ${advice}`, {
      cause,
    });
  });
  return (svg) =>
    new Resvg(svg, { fitTo: { mode: "width", value: pngWidth }, font: { loadSystemFonts: true, defaultFontFamily: "DejaVu Sans" } })
      .render()
      .asPng();
}
