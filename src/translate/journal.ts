/** The journal of translations: a file per target language, the text of each segment by its hash. */
import { z } from "zod";
import { Journal, type JournalFormat, type JournalScope } from "../endpoint/journal.js";

const translation = z.object({ text: z.string() });
export type Translation = Readonly<z.infer<typeof translation>>;

type ScopeField = "provider" | "model" | "source" | "target";
export type TranslationScope = JournalScope<ScopeField>;
export type TranslationJournal = Journal<Translation>;

const format: JournalFormat<ScopeField, Translation> = {
  name: "translation journal",
  scopeFields: ["provider", "model", "source", "target"],
  answer: translation,
};

/** @throws PolypacaError as `Journal.open` */
export function openTranslationJournal(path: string, scope: TranslationScope, now: () => number): TranslationJournal {
  return Journal.open(path, format, scope, now);
}
