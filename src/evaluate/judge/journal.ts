/** The journal of judgements: what a judge answered, by its model, the prompt's version and the pair. */
import { z } from "zod";
import { Journal, type JournalFormat } from "../../endpoint/journal.js";
import { textHash } from "../../endpoint/text-hash.js";
import type { JudgePair } from "./judge-prompt.js";

const answer = z.object({
  /** 1 to 3; null: the judge gave none, however often it was asked. */
  rating: z.number().nullable(),
  explanation: z.string().nullable(),
  /** The judge's own words. */
  raw: z.string(),
});
export type JudgeAnswer = Readonly<z.infer<typeof answer>>;
export type JudgementJournal = Journal<JudgeAnswer>;

const format: JournalFormat<"model" | "prompt", JudgeAnswer> = {
  name: "judgement journal",
  scopeFields: ["model", "prompt"],
  answer,
};

/** @throws PolypacaError as `Journal.open` */
export function openJudgementJournal(
  path: string,
  scope: { readonly model: string; readonly prompt: string },
  now: () => number,
): JudgementJournal {
  return Journal.open(path, format, scope, now);
}

/** Names a question to the judge: the same pair is asked about once per repeat, whichever systems gave that response. */
export function questionHash({ language, instruction, response }: JudgePair, repeat: number): string {
  return textHash(JSON.stringify([language, instruction, response, repeat]));
}
