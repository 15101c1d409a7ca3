/** `score`: from files of responses and judgements to a report, and from a report to files. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { readPrompts } from "../data/prompts.js";
import { type LanguageIdentifier, type LanguageIdSettings, openLanguageIdentifier } from "./language-match.js";
import { readJudgements } from "./read-judgements.js";
import { readResponses } from "./read-responses.js";
import { type Comparing, type ScoreReport, score } from "./score.js";
import { comparisonsAsCsv, robustnessAsCsv, scoresAsCsv, scoreTables } from "./score-tables.js";
import { tableAsLatex, tableAsText } from "./table.js";

export interface ScoreSettings extends LanguageIdSettings {
  readonly responses: readonly string[];
  readonly judgements: readonly string[];
  /** Test prompts: what should have been answered, and the ids of the study's LoRA output. Empty: what any system answered. */
  readonly prompts: readonly string[];
  /** Of responses that do not say theirs. */
  readonly language: string | null;
  /** Of responses that do not say theirs. */
  readonly system: string | null;
  /** Languages that the systems were tuned on; default of the command line {@link studyTrainingLanguages}. */
  readonly seenLanguages: readonly string[];
  readonly comparing: Comparing;
  readonly resamples: number;
  /** Of the resamples. */
  readonly seed: number;
}

export interface ScoreEnvironment {
  /** Default {@link openLanguageIdentifier}. */
  readonly openIdentifier?: (settings: LanguageIdSettings, languages: readonly string[]) => Promise<LanguageIdentifier>;
}

/**
 * Reads everything, then identifies and scores.
 *
 * @throws PolypacaError as {@link readResponses}, {@link readJudgements}, `readPrompts`, {@link openLanguageIdentifier} and `score` do
 */
export async function scoreFiles(
  settings: ScoreSettings,
  { openIdentifier = openLanguageIdentifier }: ScoreEnvironment = {},
): Promise<ScoreReport> {
  const { prompts } = settings.prompts.length > 0 ? await readPrompts(settings.prompts, { language: settings.language }) : { prompts: [] };
  const { language, system } = settings;
  const responses = await readResponses(settings.responses, { language, system, prompts });
  const judgements = await readJudgements(settings.judgements);
  const identifier = await openIdentifier(settings, [...new Set(responses.map((response) => response.language))]);
  return score({ ...settings, responses, judgements, prompts }, identifier);
}

/** The text that `score` prints. */
export function scoresAsText(report: ScoreReport): string {
  return scoreTables(report).map(tableAsText).join("\n\n");
}

export function scoresAsLatex(report: ScoreReport): string {
  return scoreTables(report).map(tableAsLatex).join("\n\n");
}

/**
 * Writes scores.json (the report), scores.txt, scores.tex, scores.csv, robustness.csv and comparisons.csv into `folder`.
 *
 * @returns their paths
 * @throws PolypacaError `DISK_FULL`, `IO`
 */
export async function writeScoreFiles(report: ScoreReport, folder: string): Promise<readonly string[]> {
  const contents = {
    "scores.json": JSON.stringify(report, null, 2),
    "scores.txt": scoresAsText(report),
    "scores.tex": scoresAsLatex(report),
    "scores.csv": scoresAsCsv(report),
    "robustness.csv": robustnessAsCsv(report),
    "comparisons.csv": comparisonsAsCsv(report),
  };
  await mkdir(folder, { recursive: true });
  const paths = Object.keys(contents).map((name) => join(folder, name));
  for (const [index, content] of Object.values(contents).entries()) await writeFileAtomic(paths[index]!, `${content}\n`);
  return paths;
}
