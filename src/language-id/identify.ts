import type { LanguageClassifier, LanguageScore } from "./classifier.js";
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

const nothing: Identification = { language: undecided, probability: 0 };

/** Labels of models that say that a text is in no language, or in several (ISO 639-2; GlotLID has them). */
const noLanguages: ReadonlySet<string> = new Set(["mis", "mul", "und", "zxx"]);

/** The language that a text is written in. Line breaks count as spaces. */
export function identifyLanguage(model: FastTextModel, text: string, options: IdentifyOptions = {}): Identification {
  const line = lineOf(text, options);
  return line === null ? nothing : decided(model.likeliestOf(line, expectedOf(options)));
}

/**
 * The same for many texts, in their order, with any model.
 *
 * @throws PolypacaError as {@link LanguageClassifier.likeliest} does
 */
export async function identifyLanguages(
  classifier: LanguageClassifier,
  texts: readonly string[],
  options: IdentifyOptions = {},
): Promise<readonly Identification[]> {
  const lines = texts.map((text) => lineOf(text, options));
  const found = await classifier.likeliest(
    lines.filter((line) => line !== null),
    expectedOf(options),
  );
  let next = 0;
  return lines.map((line) => (line === null ? nothing : decided(found[next++] ?? null)));
}

function decided(found: LanguageScore | null): Identification {
  return found === null || noLanguages.has(found.language) ? nothing : found;
}

function expectedOf({ candidates = "all" }: IdentifyOptions): ReadonlySet<string> | null {
  return candidates === "all" ? null : new Set(candidates.map(comparableCode));
}

/** What fastText is given; null where the text says too little. */
function lineOf(text: string, { minLetters = 4 }: IdentifyOptions): string | null {
  return hasLetters(text, minLetters) ? text.replaceAll(/[\s\0]+/g, " ").trim() : null;
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
