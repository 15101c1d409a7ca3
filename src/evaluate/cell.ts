/** A cell: one system's answers to one language's prompts, prompt by prompt, in the same order for every system. */
import type { JudgePanel } from "./judge-panel.js";
import type { IdentifiedResponse, LanguageMatch } from "./language-match.js";
import { pairKey } from "./pair-key.js";

export interface Cell {
  readonly system: string;
  readonly language: string;
  /** The language's prompts. */
  readonly ids: readonly string[];
  /** Per prompt; null: not judged, or not answered. */
  readonly ratings: readonly (number | null)[];
  /** Per prompt; null: not answered. */
  readonly matches: readonly (LanguageMatch | null)[];
}

/** What a prompt adds to the score, before or after language identification; null: not judged. */
export type PromptScore = number | null;

/**
 * @param ids each language's prompts
 * @returns per system, by language; languages that a system has no response in are left out
 */
export function formCells(
  responses: readonly IdentifiedResponse[],
  ids: ReadonlyMap<string, readonly string[]>,
  { ratings }: JudgePanel,
): ReadonlyMap<string, ReadonlyMap<string, Cell>> {
  const byPair = new Map(responses.map((response) => [pairKey(response), response]));
  const cells = new Map<string, Map<string, Cell>>();
  for (const { system, language } of responses) {
    const ofSystem = cells.get(system) ?? new Map<string, Cell>();
    cells.set(system, ofSystem);
    if (ofSystem.has(language)) continue;
    const keys = ids.get(language)!.map((id) => pairKey({ system, language, id }));
    const answers = keys.map((key) => byPair.get(key));
    ofSystem.set(language, {
      ...{ system, language, ids: ids.get(language)! },
      ratings: keys.map((key, at) => (answers[at] === undefined ? null : (ratings.get(key) ?? null))),
      matches: answers.map((answer) => answer ?? null),
    });
  }
  return cells;
}

export function scoresBeforeLanguageId({ ratings }: Cell): readonly PromptScore[] {
  return ratings;
}

export function scoresAfterLanguageId({ ratings, matches }: Cell): readonly PromptScore[] {
  return ratings.map((rating, at) => (rating === null ? null : matches[at]?.isMatch ? rating : 0));
}

/** Each language's prompt ids: those of `prompts`, else all that any system answered; in order of appearance. */
export function promptIds(
  responses: readonly IdentifiedResponse[],
  prompts: readonly { readonly id: string | number; readonly language: string }[],
): ReadonlyMap<string, readonly string[]> {
  const ids = new Map<string, Set<string>>();
  for (const { language, id } of prompts.length > 0 ? prompts : responses) {
    const ofLanguage = ids.get(language) ?? new Set<string>();
    ids.set(language, ofLanguage.add(String(id)));
  }
  return new Map([...ids].map(([language, ofLanguage]) => [language, [...ofLanguage]]));
}
