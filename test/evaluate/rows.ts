/** Rows for tests. A response says its language in front: "en: Hello"; without that it is undecided. */
import type { IdentifiedResponse, LanguageGuess, LanguageIdentifier } from "../../src/evaluate/language-match.js";
import type { Judgement } from "../../src/evaluate/read-judgements.js";
import type { ScoreInput } from "../../src/evaluate/score.js";
import { comparableCode } from "../../src/language-id/index.js";

function guess(text: string): LanguageGuess {
  const language = /^([a-z]{2}):/.exec(text)?.[1] ?? null;
  return { language, probability: language === null ? 0 : 1 };
}

export const identifier: LanguageIdentifier = {
  model: "first-word",
  candidates: "all",
  languages: new Set(["bn", "en", "fr", "no"]),
  identify: async (texts) => texts.map(guess),
  dispose: async () => {},
};

const place = { file: "rows.jsonl", index: 0, line: 1, column: 1 };

export function response(system: string, language: string, id: string, text = `${language}: yes`): IdentifiedResponse {
  const metadata = { model: null, method: null, condition: null, seed: null, prompt: null };
  const { language: detected, probability } = guess(text);
  const match = { detected, probability, isMatch: detected === comparableCode(language) };
  return { system, language, id, response: text, place, ...metadata, ...match };
}

export function judgement(system: string, language: string, id: string, rating: number | null, judge = "judge", repeat = 0): Judgement {
  return { system, language, id, rating, judge, repeat, place };
}

/**
 * A system's rows from one text per language: a letter for the language of each response (e, f, b, n; u: undecided), a digit for its
 * rating (-: none). "e3 f2 u1": prompts 1, 2, 3.
 */
export function rowsOf(system: string, cells: Readonly<Record<string, string>>, metadata: Partial<IdentifiedResponse> = {}): Rows {
  const named = { e: "en: yes", f: "fr: oui", b: "bn: hm", n: "no: ja", u: "?" } as const;
  const responses: IdentifiedResponse[] = [];
  const judgements: Judgement[] = [];
  for (const [language, cell] of Object.entries(cells)) {
    for (const [index, code] of cell.split(" ").entries()) {
      const id = String(index + 1);
      responses.push({ ...response(system, language, id, named[code[0] as keyof typeof named]), ...metadata });
      judgements.push(judgement(system, language, id, code[1] === "-" ? null : Number(code[1])));
    }
  }
  return { responses, judgements };
}

export type Rows = Pick<ScoreInput, "responses" | "judgements">;

export function inputOf(rows: readonly Rows[], settings: Partial<ScoreInput> = {}): ScoreInput {
  return {
    responses: rows.flatMap(({ responses }) => responses),
    judgements: rows.flatMap(({ judgements }) => judgements),
    ...{ prompts: [], seenLanguages: ["en", "fr"], comparing: "none", resamples: 500, seed: 0 },
    ...settings,
  };
}
