/** Files that a run leaves: the result as JSON, a picture of it. */
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { savedText } from "./compare.js";
import { plotReport } from "./plot.js";
import type { BenchReport } from "./report.js";

export interface OutputFiles {
  readonly save?: string | undefined;
  readonly plot?: string | undefined;
}

/**
 * Before minutes of measuring: can the files be written?
 *
 * @throws PolypacaError `USAGE` for another ending than .svg, `NOT_FOUND` for a folder that is not there
 */
export async function checkOutputs({ save, plot }: OutputFiles): Promise<void> {
  if (plot !== undefined && !plot.toLowerCase().endsWith(".svg")) {
    throw new PolypacaError("USAGE", `--plot ${plot}: the picture is an SVG file. Let the name end in .svg.`);
  }
  for (const [flag, path] of [["--save", save] as const, ["--plot", plot] as const]) {
    if (path === undefined) continue;
    const info = await stat(dirname(path)).catch(() => null);
    if (!info?.isDirectory()) throw new PolypacaError("NOT_FOUND", `${flag} ${path}: there is no folder ${dirname(path)}. Make it first.`);
  }
}

/** @returns the files written */
export async function writeOutputs(report: BenchReport, { save, plot }: OutputFiles): Promise<string[]> {
  const written: string[] = [];
  if (save !== undefined) {
    await writeFileAtomic(save, savedText(report));
    written.push(save);
  }
  if (plot !== undefined) {
    await writeFileAtomic(plot, plotReport(report));
    written.push(plot);
  }
  return written;
}
