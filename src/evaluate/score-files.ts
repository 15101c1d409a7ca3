/** `score`: from files of responses and judgements to a report, and from a report to files. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { readPrompts } from "../data/prompts.js";
import {
  type IdentifiedResponse,
  identifyResponses,
  type LanguageIdentifier,
  type LanguageIdSettings,
  openLanguageIdentifier,
} from "./language-match.js";
import { readJudgements } from "./read-judgements.js";
import { readResponses } from "./read-responses.js";
import { type Comparing, checkRows, type ScoreReport, score } from "./score.js";
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

/** A prompt left out would make a cell look complete that is not. */
const correctPrompts = "Correct it: scores are of all prompts.";

export interface ScoreEnvironment {
  /** Default {@link openLanguageIdentifier}. */
  readonly openIdentifier?: (settings: LanguageIdSettings, languages: readonly string[]) => Promise<LanguageIdentifier>;
}

export interface Scored {
  readonly report: ScoreReport;
  /** Every response, with the language it was found to be in. */
  readonly responses: readonly IdentifiedResponse[];
}

/**
 * Reads and checks everything, then identifies and scores.
 *
 * @throws PolypacaError as {@link readResponses}, {@link readJudgements}, `readPrompts`, {@link openLanguageIdentifier},
 *   {@link identifyResponses} and {@link score} do
 */
export async function scoreFiles(
  settings: ScoreSettings,
  { openIdentifier = openLanguageIdentifier }: ScoreEnvironment = {},
): Promise<Scored> {
  const { language, system } = settings;
  const { prompts } =
    settings.prompts.length > 0 ? await readPrompts(settings.prompts, { language, mend: correctPrompts }) : { prompts: [] };
  const read = await readResponses(settings.responses, { language, system, prompts });
  const judgements = await readJudgements(settings.judgements);
  checkRows({ ...settings, responses: read, judgements, prompts });
  const identifier = await openIdentifier(settings, [...new Set(read.map((response) => response.language))]);
  try {
    const responses = await identifyResponses(read, identifier);
    return { report: score({ ...settings, responses, judgements, prompts }, identifier), responses };
  } finally {
    await identifier.dispose();
  }
}

/** The text that `score` prints. */
export function scoresAsText(report: ScoreReport): string {
  return scoreTables(report).map(tableAsText).join("\n\n");
}

export function scoresAsLatex(report: ScoreReport): string {
  return scoreTables(report).map(tableAsLatex).join("\n\n");
}

/** JSONL: each response's key, what language it was found to be in (null: undecided), with which probability, and whether that counts. */
function languagesAsJsonl(responses: readonly IdentifiedResponse[]): string {
  return responses
    .map(({ id, language, system, detected, probability, isMatch }) =>
      JSON.stringify({ id, language, system, detected, probability, match: isMatch }),
    )
    .join("\n");
}

/**
 * Writes scores.json (the report), scores.txt, scores.tex, scores.csv, robustness.csv, comparisons.csv and languages.jsonl (each response's
 * language) into `folder`.
 *
 * @returns their paths
 * @throws PolypacaError `DISK_FULL`, `IO`
 */
export async function writeScoreFiles({ report, responses }: Scored, folder: string): Promise<readonly string[]> {
  const contents = {
    "scores.json": JSON.stringify(report, null, 2),
    "scores.txt": scoresAsText(report),
    "scores.tex": scoresAsLatex(report),
    "scores.csv": scoresAsCsv(report),
    "robustness.csv": robustnessAsCsv(report),
    "comparisons.csv": comparisonsAsCsv(report),
    "languages.jsonl": languagesAsJsonl(responses),
  };
  await mkdir(folder, { recursive: true });
  const paths = Object.keys(contents).map((name) => join(folder, name));
  for (const [index, content] of Object.values(contents).entries()) await writeFileAtomic(paths[index]!, `${content}\n`);
  return paths;
}
