/** Whether responses are in the language of their prompts. */
import { comparableCode, identifyLanguages, openClassifier, undecided } from "../language-id/index.js";
import { refuseRows } from "./pair-key.js";
import type { EvaluatedResponse } from "./read-responses.js";

/** What identifying a text says. */
export interface LanguageGuess {
  /** ISO 639 code, one for all of Norwegian and one for all of Chinese; null: undecided (too short, no letters). */
  readonly language: string | null;
  /** Of the language among all that the model knows, 0 to 1; 0 where undecided. */
  readonly probability: number;
}

/** Which languages a response can be found to be in: `all` that the model knows, or only the `expected` ones, those under test. */
export type LanguageCandidates = "all" | "expected";

export interface LanguageIdentifier {
  /** Name of the model, for the record. */
  readonly model: string;
  readonly candidates: LanguageCandidates;
  /** Codes it can answer with. */
  readonly languages: ReadonlySet<string>;
  /** One guess for each text, in their order. */
  readonly identify: (texts: readonly string[]) => Promise<readonly LanguageGuess[]>;
  /** Gives the model's memory back. */
  readonly dispose: () => Promise<void>;
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
 * @throws PolypacaError as {@link openClassifier} does for the model's file
 */
export async function openLanguageIdentifier(
  { lidModel, candidates }: LanguageIdSettings,
  languages: readonly string[],
): Promise<LanguageIdentifier> {
  const classifier = await openClassifier(lidModel);
  const options = { candidates: candidates === "all" ? candidates : languages };
  const identify: LanguageIdentifier["identify"] = async (texts) => {
    const found = await identifyLanguages(classifier, texts, options);
    return found.map(({ language, probability }) => ({ language: language === undecided ? null : language, probability }));
  };
  const { name: model } = classifier;
  return { model, candidates, languages: new Set(classifier.languages), identify, dispose: () => classifier.dispose() };
}

export interface LanguageMatch {
  /** What the response was found to be in; null: undecided. */
  readonly detected: string | null;
  readonly probability: number;
  /** Undecided is no match. */
  readonly isMatch: boolean;
}

export type IdentifiedResponse = EvaluatedResponse & LanguageMatch;

/**
 * Finds each response's language.
 *
 * @throws PolypacaError `BAD_RECORD` listing responses to prompts in languages that the identifier does not know; what it throws itself
 */
export async function identifyResponses(
  responses: readonly EvaluatedResponse[],
  { identify, languages, model }: LanguageIdentifier,
): Promise<readonly IdentifiedResponse[]> {
  const unknown = responses.filter(({ language }) => !languages.has(comparableCode(language)));
  refuseRows(
    "BAD_RECORD",
    unknown.map(({ language, place }) => ({ ...place, reason: `${model} does not know the language ${JSON.stringify(language)}` })),
    "Correct the code, or use a --lid-model that knows it: nothing could match.",
  );
  const guesses = await identify(responses.map(({ response }) => response));
  return responses.map((response, index) => {
    const { language: detected, probability } = guesses[index]!;
    return { ...response, detected, probability, isMatch: detected === comparableCode(response.language) };
  });
}

export function describeRule({ model, candidates }: LanguageRule): string {
  const among = candidates === "all" ? "any language it knows" : "only the languages under test";
  return `${model}, candidates ${candidates} (${among})`;
}
