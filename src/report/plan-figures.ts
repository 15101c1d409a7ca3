/** From scores to the study's figures, as data. Pure. */
import { PolypacaError } from "../errors.js";
import { groupBy } from "../evaluate/group-by.js";
import { describeRule } from "../evaluate/language-match.js";
import { ratingScale } from "../evaluate/read-judgements.js";
import { logAxis, scoreAxis } from "./axis-ends.js";
import { orderConditions } from "./condition-styles.js";
import type { Figure, Panel, Point, Series } from "./figure.js";
import { type MeasureOf, pointAt, refuseRivals, robustnessOver, scoreIn } from "./measures.js";
import { type DescribedSystem, describeSystems, emptyCatalog, type ModelCatalog } from "./model-catalog.js";
import { formatParameters } from "./model-sizes.js";
import type { Scores } from "./read-scores.js";

export interface FigurePlan {
  readonly figures: readonly Figure[];
  /** Figures of the study that these scores do not give. */
  readonly skipped: readonly { readonly figure: string; readonly reason: string }[];
}

export interface PlanOptions {
  /** Default: what names tell. */
  readonly catalog?: ModelCatalog;
  /** The size, in parameters, at which families are compared; null: the one that most families have (of several, the largest). */
  readonly familySize?: number | null;
}

/**
 * The figures of an evaluation:
 *
 * - `scores-<method>-<family>`, `unseen-<method>-<family>`: score against model size, a panel per seen or unseen language, a line per
 *   condition; for families of two sizes or more;
 * - `robustness`: mean drop by language identification against model size on log axes, a panel per method and family;
 * - `families-<method>`: bars of models of about one size, by family, a panel per language.
 *
 * Untuned models (method "base") stand in the figures of every method, as condition "untuned".
 *
 * @throws PolypacaError `BAD_DATA` for systems whose place is not known or taken twice (see {@link describeSystems} and
 *   {@link refuseRivals}); `USAGE` for a `familySize` that no model has
 */
export function planFigures(scores: Scores, { catalog = emptyCatalog, familySize = null }: PlanOptions = {}): FigurePlan {
  const systems = describeSystems(scores.systems, catalog);
  refuseRivals(systems);
  const methods = methodsOf(systems);
  const tested = [...new Set(systems.flatMap(({ languages }) => Object.keys(languages)))].sort();
  const seen = tested.filter((language) => scores.seenLanguages.includes(language));
  const unseen = tested.filter((language) => !scores.seenLanguages.includes(language));
  const context: Context = { scores, systems, seen, unseen };
  const figures: Figure[] = [];
  const skipped: FigurePlan["skipped"][number][] = [];
  const lines = methods.flatMap((method) =>
    familiesOf(ofMethod(systems, method)).map((family) => ({ method, family, systems: ofFamily(ofMethod(systems, method), family) })),
  );
  for (const group of lines) {
    if (sizesOf(group.systems).length > 1) figures.push(...scoreFigures(group, context));
    else skipped.push({ figure: `scores-${fileName(group.method)}-${fileName(group.family)}`, reason: oneSize(group) });
  }
  const robust = lines.filter((group) => sizesOf(group.systems).length > 1);
  if (robust.length > 0 && seen.length > 0) figures.push(robustnessFigure(robust, context));
  else skipped.push({ figure: "robustness", reason: seen.length === 0 ? "no seen language was tested" : "no family has two sizes" });
  const bars = methods.map((method) => familiesFigure(method, familySize, context));
  if (bars.every((figure) => figure === null)) throw noSuchSize(familySize!, systems);
  for (const [index, figure] of bars.entries()) {
    if (figure !== null) figures.push(figure);
    else skipped.push({ figure: `families-${fileName(methods[index]!)}`, reason: `no model of about ${formatParameters(familySize!)}` });
  }
  return { figures, skipped };
}

interface Context {
  readonly scores: Scores;
  readonly systems: readonly DescribedSystem[];
  readonly seen: readonly string[];
  readonly unseen: readonly string[];
}

/** The systems that one set of lines is drawn of. */
interface LineGroup {
  readonly method: string;
  readonly family: string;
  readonly systems: readonly DescribedSystem[];
}

const base = "base";

/** "lora" and "fft" first; base models alone are figures of their own. */
function methodsOf(systems: readonly DescribedSystem[]): string[] {
  const order = ["lora", "fft"];
  const tuned = [...new Set(systems.map(({ method }) => method))].filter((method) => method !== base);
  if (tuned.length === 0) return [base];
  return [...order.filter((method) => tuned.includes(method)), ...tuned.filter((method) => !order.includes(method)).sort()];
}

/** Base models belong to every method that tuned their family. */
function ofMethod(systems: readonly DescribedSystem[], method: string): DescribedSystem[] {
  const tuned = systems.filter((system) => system.method === method);
  const families = new Set(familiesOf(tuned));
  return systems.filter((system) => system.method === method || (system.method === base && families.has(system.family)));
}

function ofFamily(systems: readonly DescribedSystem[], family: string): DescribedSystem[] {
  return systems.filter((system) => system.family === family);
}

function familiesOf(systems: readonly DescribedSystem[]): string[] {
  const key = (family: string): string => `${family.toLowerCase()} ${family}`;
  return [...new Set(systems.map(({ family }) => family))].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function sizesOf(systems: readonly DescribedSystem[]): number[] {
  return [...new Set(systems.map(({ parameters }) => parameters))].sort((a, b) => a - b);
}

function oneSize({ family, method, systems }: LineGroup): string {
  return `${family} with ${methodName(method)} has one size only (${formatParameters(sizesOf(systems)[0]!)})`;
}

function scoreFigures(group: LineGroup, context: Context): Figure[] {
  const { method, family } = group;
  const kinds = [
    { stem: "scores", languages: context.seen, of: "languages seen in tuning" },
    { stem: "unseen", languages: context.unseen, of: "unseen languages" },
  ];
  return kinds
    .map((kind) => ({ ...kind, tested: kind.languages.filter((language) => isTested(language, group.systems)) }))
    .filter(({ tested }) => tested.length > 0)
    .map(({ stem, languages, tested, of }): Figure => {
      const panels = tested.map((language) => linesPanel(languageName(language), group.systems, scoreIn(language)));
      return {
        ...{ name: `${stem}-${fileName(method)}-${fileName(family)}`, form: "lines", panels },
        title: `${family}, ${methodName(method)}: score by model size, ${of}`,
        ...{ x: { label: sizeLabel }, y: scoreAxisOf(languages, context), notes: [...intervalNotes(context, panels), ruleNote(context)] },
      };
    });
}

function isTested(language: string, systems: readonly DescribedSystem[]): boolean {
  return systems.some(({ languages }) => Object.hasOwn(languages, language));
}

const sizeLabel = "model size (parameters, log scale)";

function robustnessFigure(groups: readonly LineGroup[], context: Context): Figure {
  const measureOf = robustnessOver(context.scores.seenLanguages);
  const panels = groups.map(({ method, family, systems }) => linesPanel(`${family}, ${methodName(method)}`, systems, measureOf));
  const over = `Mean over ${context.seen.join(", ")}; smaller is more robust.`;
  return {
    ...{ name: "robustness", form: "lines", panels },
    ...{ title: "Language robustness: drop of the score by language identification", x: { label: sizeLabel } },
    ...{ y: { label: "mean drop (points, log scale)", scale: "log", ...logAxis(pointsOf(panels)) } },
    notes: [over, ...intervalNotes(context, panels), ruleNote(context)],
  };
}

function linesPanel(title: string, systems: readonly DescribedSystem[], measureOf: MeasureOf): Panel {
  const sizes = sizesOf(systems);
  const series = seriesOf(systems, (ofCondition) =>
    sizes.map((size) =>
      pointAt(
        size,
        ofCondition.filter(({ parameters }) => parameters === size),
        measureOf,
      ),
    ),
  );
  const present = series.filter(({ points }) => points.some(({ value }) => value !== null)); // an empty line would only be in the legend
  return { title, series: present, ticks: sizes.map((at) => ({ at, label: formatParameters(at) })) };
}

/** A series per condition. */
function seriesOf(systems: readonly DescribedSystem[], pointsOfCondition: (systems: readonly DescribedSystem[]) => Point[]): Series[] {
  const byCondition = groupBy(systems, ({ condition }) => condition);
  return orderConditions(byCondition.keys()).map((condition) => ({ condition, points: pointsOfCondition(byCondition.get(condition)!) }));
}

/** Null: the method has no model of that size. */
function familiesFigure(method: string, familySize: number | null, context: Context): Figure | null {
  const systems = ofMethod(context.systems, method);
  const { models, left } = comparableModels(systems, familySize);
  if (models.length === 0) return null;
  const all = [...context.seen, ...context.unseen];
  const languages = all.filter((language) => isTested(language, models.flat()));
  const panels = languages.map((language): Panel => {
    const series = seriesOf(models.flat(), (ofCondition) =>
      models.map((ofModel, at) =>
        pointAt(
          at,
          ofModel.filter((system) => ofCondition.includes(system)),
          scoreIn(language),
        ),
      ),
    );
    const ticks = models.map(([system], at) => ({ at, label: `${system!.family}\n${formatParameters(system!.parameters)}` }));
    return { title: `${languageName(language)}${context.unseen.includes(language) ? ", unseen" : ""}`, ticks, series };
  });
  const leftOut = left.length > 0 ? [`Left out, having no model of about that size: ${left.join(", ")}.`] : [];
  return {
    ...{ name: `families-${fileName(method)}`, form: "bars", panels, title: `${methodName(method)}: score by model family` },
    ...{ x: { label: "model family and size (parameters)" }, y: scoreAxisOf(languages, context) },
    notes: [...leftOut, ...intervalNotes(context, panels), ruleNote(context)],
  };
}

/** Sizes that differ by no more than this factor count as one: 6.9B, 7B, 7.1B, but not 3B and 7B. */
const sameSizeFactor = 1.25;

/** Each family's systems of the one model nearest to the size, families by name; and the families without such a model. */
function comparableModels(
  systems: readonly DescribedSystem[],
  size: number | null,
): { readonly models: readonly (readonly DescribedSystem[])[]; readonly left: readonly string[] } {
  const families = familiesOf(systems);
  const nearest = (target: number): ReadonlyMap<string, number> => {
    const distance = (parameters: number): number => Math.abs(Math.log(parameters / target));
    const found = families.map(
      (family) => [family, sizesOf(ofFamily(systems, family)).sort((a, b) => distance(a) - distance(b))[0]!] as const,
    );
    return new Map(found.filter(([, parameters]) => distance(parameters) <= Math.log(sameSizeFactor)));
  };
  // Of sizes that as many families have, the last and therefore the largest.
  const chosen = size ?? sizesOf(systems).reduce((best, candidate) => (nearest(candidate).size >= nearest(best).size ? candidate : best));
  const sizes = nearest(chosen);
  return {
    models: [...sizes].map(([family, parameters]) => ofFamily(systems, family).filter((system) => system.parameters === parameters)),
    left: families.filter((family) => !sizes.has(family)),
  };
}

function noSuchSize(size: number, systems: readonly DescribedSystem[]): PolypacaError {
  const known = sizesOf(systems).map(formatParameters).join(", ");
  return new PolypacaError("USAGE", `--family-size: there is no model of about ${formatParameters(size)} parameters, only ${known}.`);
}

/** One axis for all methods and families, so that figures can be laid side by side. */
function scoreAxisOf(languages: readonly string[], { systems }: Context): Figure["y"] {
  const cells = systems.flatMap((system) =>
    languages.flatMap((language) => (Object.hasOwn(system.languages, language) ? [system.languages[language]!] : [])),
  );
  const counts = [...new Set(cells.map(({ prompts }) => prompts))];
  const best = ratingScale.max * Math.max(...counts);
  const ends = cells.flatMap(({ score, interval }) => [score, ...(interval ?? [])]);
  const label = counts.length === 1 ? `score (${counts[0]} prompts: 0 to ${best})` : "score (sum over the prompts)";
  return { label, scale: "linear", ...scoreAxis(Math.max(...ends), best) };
}

function pointsOf(panels: readonly Panel[]): Point[] {
  return panels.flatMap(({ series }) => series.flatMap(({ points }) => points));
}

/** Says what the whiskers are; nothing where there are none. */
function intervalNotes({ scores, systems }: Context, panels: readonly Panel[]): string[] {
  if (pointsOf(panels).every(({ low }) => low === null)) return [];
  const hasSeeds = groupBy(systems, ({ model, method, condition }) => JSON.stringify([model, method, condition])).size < systems.length;
  const intervals = `Whiskers: ${100 * scores.confidence}% BCa bootstrap intervals over prompts (${scores.resamples} resamples)`;
  return [`${intervals}${hasSeeds ? "; of points with several training seeds, the range of the seeds about their mean" : ""}.`];
}

/** Every score depends on it. */
function ruleNote({ scores }: Context): string {
  return `Language identification: ${describeRule(scores.languageId)}. Judge: ${scores.judges.join(", ")}.`;
}

const methodNames: ReadonlyMap<string, string> = new Map([
  ["lora", "LoRA"],
  ["fft", "FFT"],
  [base, "untuned models"],
]);

function methodName(method: string): string {
  return methodNames.get(method) ?? method;
}

/** English names of the study's languages; Intl's differ by version ("Bengali", "Bangla"), and pictures should not. */
const languageNames: ReadonlyMap<string, string> = new Map(
  Object.entries({
    ...{ bg: "Bulgarian", bn: "Bengali", cs: "Czech", de: "German", en: "English", es: "Spanish", fi: "Finnish", fr: "French" },
    ...{ hi: "Hindi", no: "Norwegian", pt: "Portuguese", ru: "Russian", zh: "Chinese" },
  }),
);

/** Other codes stand for themselves. */
function languageName(code: string): string {
  return languageNames.get(code) ?? code;
}

/** For file names: "Baichuan-2" is baichuan-2. */
function fileName(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}.]+/gu, "-")
    .replaceAll(/^[-.]+|[-.]+$/g, "");
}
