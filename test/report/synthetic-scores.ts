/** Score reports that `score` makes of invented responses: a response is "<language>: ...", which is what it is found to be in. */
import type { LanguageRule } from "../../src/evaluate/language-match.js";
import { type ScoreReport, score } from "../../src/evaluate/score.js";
import { inputOf, type Rows, response } from "../evaluate/rows.js";

export interface SyntheticSystem {
  readonly system?: string;
  readonly model: string | null;
  readonly method: string | null;
  readonly condition: string | null;
  readonly seed?: number | null;
  /** By language, for prompts 1, 2, ...: a rating (null: not judged), and "x" behind it where the response is in another language. */
  readonly cells: Readonly<Record<string, readonly string[]>>;
}

const rule: LanguageRule = { model: "first-word", candidates: "all" };

export const seenLanguages = ["bg", "en", "es", "fr", "ru", "zh"];

export function reportOf(systems: readonly SyntheticSystem[], resamples = 100): ScoreReport {
  const rows = systems.map((system): Rows => rowsOf(system));
  return score(inputOf(rows, { seenLanguages, resamples }), rule);
}

function rowsOf({
  model,
  method,
  condition,
  seed = null,
  cells,
  system = [model, method, condition, seed].join(" "),
}: SyntheticSystem): Rows {
  const place = { file: "synthetic.jsonl", index: 0, line: 1, column: 1 };
  const ratings = Object.entries(cells).flatMap(([language, codes]) =>
    codes.map((code, index) => ({ language, code, id: String(index + 1) })),
  );
  return {
    responses: ratings.map(({ language, code, id }) => ({
      ...response(system, language, id, `${code.endsWith("x") ? (language === "en" ? "fr" : "en") : language}: yes`),
      ...{ model, method, condition, seed },
    })),
    judgements: ratings.map(({ language, code, id }) => {
      const rating = code.startsWith("-") ? null : Number(code[0]);
      return { ...{ system, language, id, rating, judge: "judge", repeat: 0, place } };
    }),
  };
}

/** Ratings that grow with the model and differ by condition, the same on every call. */
export function plausibleCells(size: number, condition: string, of: readonly string[], prompts: number): SyntheticSystem["cells"] {
  const skill = 0.2 + 0.16 * Math.log2(size / 4e8) * (condition === "untuned" ? 0.5 : 1);
  const bonus = { monolingual: 0.12, multilingual: 0.15, english: -0.06, downsampled: 0.05 }[condition] ?? -0.1;
  const slips = { monolingual: 0.02, multilingual: 0.05, english: 0.35, downsampled: 0.1 }[condition] ?? 0.6;
  const cell = (language: string): string[] =>
    Array.from({ length: prompts }, (_, index) => {
      const ease = (((index + 1) * 0.618034 + language.charCodeAt(0) * 0.137) % 1) - 0.5;
      const quality = skill + bonus + ease * 0.9 - (seenLanguages.includes(language) ? 0 : 0.25);
      const rating = quality > 0.75 ? 3 : quality > 0.35 ? 2 : 1;
      return `${rating}${(index * 0.7548777 + language.charCodeAt(1) * 0.31) % 1 < slips / (1 + skill) && language !== "en" ? "x" : ""}`;
    });
  return Object.fromEntries(of.map((language) => [language, cell(language)]));
}
