import type { FastTextModel } from "./fasttext-model.js";
import { comparableCode } from "./labels.js";

/** The verdict on a text that says too little. */
export const undecided = "undecided";

/**
 * Which languages may be found: `all` of the model's, or only these, of which the most probable one is taken. It matters: lid.176.ftz reads
 * 21 of the study's 50 Norwegian prompts as Danish, and all but 2 as Norwegian when it may only choose among the study's languages. Say
 * with a score which rule it used.
 */
export type Candidates = "all" | readonly string[];

export interface IdentifyOptions {
  /** Default `all`. */
  readonly candidates?: Candidates;
  /** Fewest letters of a text that is decided; a letter of a script without an alphabet (Chinese, Japanese) counts as two. Default 4. */
  readonly minLetters?: number;
}

export interface Identification {
  /** Comparable code (`no` for Bokmål and Nynorsk, `zh` for all of Chinese), or {@link undecided}. */
  readonly language: string;
  /** Of the language among all of the model's, 0 to 1; 0 where undecided. */
  readonly probability: number;
}

/** Labels asked for, the next number where no expected language is among them (0: all). One takes half the time of ten, and is nearly always enough. */
const labelCounts = [1, 10, 0] as const;

const nothing: Identification = { language: undecided, probability: 0 };

/** The language that a text is written in. Line breaks count as spaces. */
export function identifyLanguage(model: FastTextModel, text: string, options: IdentifyOptions = {}): Identification {
  const { candidates = "all", minLetters = 4 } = options;
  if (!hasLetters(text, minLetters)) return nothing;
  const line = text.replaceAll(/[\s\0]+/g, " ").trim();
  if (candidates === "all") return model.predict(line, 1)[0] ?? nothing;
  const expected = new Set(candidates.map(comparableCode));
  const isExpected = ({ language }: { readonly language: string }): boolean => expected.has(language);
  for (const count of labelCounts) {
    const found = model.predict(line, count).find(isExpected);
    if (found !== undefined) return found;
  }
  return nothing;
}

const letters = /\p{L}/gu;
const wordLetter = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;

function hasLetters(text: string, atLeast: number): boolean {
  let found = 0;
  for (const [letter] of text.matchAll(letters)) {
    found += wordLetter.test(letter) ? 2 : 1;
    if (found >= atLeast) return true;
  }
  return false;
}
