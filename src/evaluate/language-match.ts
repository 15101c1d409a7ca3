/** Whether responses are in the language of their prompts. */
import { comparableCode, FastTextModel, identifyLanguage, undecided } from "../language-id/index.js";
import type { EvaluatedResponse } from "./read-responses.js";

/** What identifying a text says. */
export interface LanguageGuess {
  /** ISO 639 code, one for all of Norwegian and one for all of Chinese; null: undecided (too short, no letters). */
  readonly language: string | null;
}

/** Which languages a response can be found to be in: `all` that the model knows, or only the `expected` ones, those under test. */
export type LanguageCandidates = "all" | "expected";

export interface LanguageIdentifier {
  /** Name of the model, for the record. */
  readonly model: string;
  readonly candidates: LanguageCandidates;
  /** Codes it can answer with. */
  readonly languages: ReadonlySet<string>;
  readonly identify: (text: string) => LanguageGuess;
}

/** The rule that a score depends on; stored with every score. */
export type LanguageRule = Pick<LanguageIdentifier, "model" | "candidates">;

export interface LanguageIdSettings {
  /** A fastText model; null: lid.176.ftz, which comes along. */
  readonly lidModel: string | null;
  /** Default of the command line: `all`, the study's rule. */
  readonly candidates: LanguageCandidates;
}

/**
 * @param languages under test
 * @throws PolypacaError `NOT_FOUND`, `BAD_CHECKPOINT`, `UNSUPPORTED` for the model's file
 */
export async function openLanguageIdentifier(
  { lidModel, candidates }: LanguageIdSettings,
  languages: readonly string[],
): Promise<LanguageIdentifier> {
  const model = lidModel === null ? await FastTextModel.loadBundled() : await FastTextModel.load(lidModel);
  const options = { candidates: candidates === "all" ? candidates : languages };
  const identify = (text: string): LanguageGuess => {
    const { language } = identifyLanguage(model, text, options);
    return { language: language === undecided ? null : language };
  };
  return { model: model.name, candidates, languages: new Set(model.languages), identify };
}

export interface LanguageMatch {
  /** What the response was found to be in; null: undecided. */
  readonly detected: string | null;
  /** Undecided is no match. */
  readonly isMatch: boolean;
}

export function matchLanguage({ language, response }: EvaluatedResponse, identifier: LanguageIdentifier): LanguageMatch {
  const detected = identifier.identify(response).language;
  return { detected, isMatch: detected === comparableCode(language) };
}

export function knowsLanguage({ languages }: LanguageIdentifier, code: string): boolean {
  return languages.has(comparableCode(code));
}

export function describeRule({ model, candidates }: LanguageRule): string {
  const among = candidates === "all" ? "any language it knows" : "only the languages under test";
  return `${model}, candidates ${candidates} (${among})`;
}
