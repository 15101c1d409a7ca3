/** What there is to ask: the responses with their instructions, and the questions that they come to. */
import type { BadRecord } from "../../data/json-records.js";
import { readPrompts, type TestPrompt } from "../../data/prompts.js";
import { describePair, refuseRows } from "../pair-key.js";
import { type EvaluatedResponse, readResponses } from "../read-responses.js";
import { questionHash } from "./journal.js";
import type { JudgePair } from "./judge-prompt.js";
import type { JudgeSettings } from "./settings.js";

/** One row of the output. */
export interface JudgementRow {
  readonly response: EvaluatedResponse;
  /** From 0. */
  readonly repeat: number;
  /** Of its question; rows of equal pairs share it. */
  readonly hash: string;
}

export interface Question {
  readonly hash: string;
  readonly pair: JudgePair;
  /** A row that asks it, for messages. */
  readonly row: JudgementRow;
}

export interface Questions {
  /** In the responses' order, a pair's repeats one after the other. */
  readonly rows: readonly JudgementRow[];
  /** Different ones, in the order of the rows. */
  readonly questions: readonly Question[];
}

/** @throws PolypacaError as `readResponses` and `readPrompts`; `BAD_DATA` listing responses whose instruction nothing says */
export async function readQuestions(settings: JudgeSettings): Promise<Questions> {
  const { language, system, repeat } = settings;
  const { prompts } =
    settings.prompts.length > 0 ? await readPrompts(settings.prompts, { language, mend: "Correct it." }) : { prompts: [] };
  const responses = await readResponses(settings.responses, { language, system, prompts });
  const pairs = pairsOf(responses, prompts);
  const rows: JudgementRow[] = [];
  const questions = new Map<string, Question>();
  for (const [index, response] of responses.entries()) {
    const pair = pairs[index]!;
    for (let turn = 0; turn < repeat; turn++) {
      const hash = questionHash(pair, turn);
      const row = { response, repeat: turn, hash };
      rows.push(row);
      if (!questions.has(hash)) questions.set(hash, { hash, pair, row });
    }
  }
  return { rows, questions: [...questions.values()] };
}

function pairsOf(responses: readonly EvaluatedResponse[], prompts: readonly TestPrompt[]): readonly JudgePair[] {
  const keyOf = (language: string, id: string | number): string => JSON.stringify([language, String(id)]);
  const byKey = new Map(prompts.map(({ language, id, prompt }) => [keyOf(language, id), prompt]));
  const missing: BadRecord[] = [];
  const pairs = responses.map(({ language, id, prompt, response, place, system }) => {
    const instruction = prompt ?? byKey.get(keyOf(language, id));
    if (instruction === undefined)
      missing.push({ ...place, reason: `${describePair({ system, language, id })}: nothing says what it answers` });
    return { language, instruction: instruction ?? "", response };
  });
  refuseRows("BAD_DATA", missing, 'Give the prompts with --prompts test_<code>.jsonl, or the responses a field "prompt".');
  return pairs;
}
