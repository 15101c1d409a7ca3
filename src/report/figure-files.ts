/** `figures`: from score reports to picture files. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { conditionsIn } from "./condition-styles.js";
import { emptyCatalog, readModelCatalog } from "./model-catalog.js";
import { type FigurePlan, planFigures } from "./plan-figures.js";
import { openPngConverter, type PngConverter } from "./png.js";
import { readScores } from "./read-scores.js";

export interface FigureSettings {
  /** scores.json files of `score --out`. */
  readonly scores: readonly string[];
  /** Folder for the pictures; made where it is missing, files of the same names are replaced. */
  readonly out: string;
  /** YAML on models and systems that names do not tell; null: none. */
  readonly models: string | null;
  /** Parameters at which families are compared; null: the size that most families have. */
  readonly familySize: number | null;
  /** Also write each picture as PNG. */
  readonly png: boolean;
}

export interface FigureEnvironment {
  /** Default {@link openPngConverter}. */
  readonly openPng?: () => Promise<PngConverter>;
}

export interface FiguresResult {
  readonly figures: readonly { readonly name: string; readonly title: string; readonly svg: string; readonly png: string | null }[];
  readonly skipped: FigurePlan["skipped"];
}

/**
 * Draws everything, then writes. What figures there are: {@link planFigures}.
 *
 * @throws PolypacaError as {@link readScores}, {@link readModelCatalog}, {@link planFigures} and {@link openPngConverter} do;
 *   `BAD_DATA` where two figures would have one name; `DISK_FULL`, `IO`
 */
export async function figuresOfFiles(
  settings: FigureSettings,
  { openPng = openPngConverter }: FigureEnvironment = {},
): Promise<FiguresResult> {
  const scores = await readScores(settings.scores);
  const catalog = settings.models === null ? emptyCatalog : await readModelCatalog(settings.models);
  const { figures, skipped } = planFigures(scores, { catalog, familySize: settings.familySize });
  refuseRepeatedNames(figures.map(({ name }) => name));
  const toPng = settings.png ? await openPng() : null;
  const { drawFigure } = await import("./draw-figure.js");
  const conditions = conditionsIn(figures);
  const drawn = figures.map((figure) => ({ figure, picture: drawFigure(figure, conditions) }));
  await mkdir(settings.out, { recursive: true });
  const written: FiguresResult["figures"][number][] = [];
  for (const { figure, picture } of drawn) {
    const [svg, png] = [join(settings.out, `${figure.name}.svg`), join(settings.out, `${figure.name}.png`)];
    await writeFileAtomic(svg, picture);
    if (toPng) await writeFileAtomic(png, toPng(picture));
    written.push({ name: figure.name, title: figure.title, svg, png: toPng ? png : null });
  }
  return { figures: written, skipped };
}

/** Families or methods whose names differ only in what file names leave out. */
function refuseRepeatedNames(names: readonly string[]): void {
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated === undefined) return;
  const message = `two figures would be written to ${repeated}.svg: give families and methods names that differ in letters or digits (--models).`;
  throw new PolypacaError("BAD_DATA", message);
}
