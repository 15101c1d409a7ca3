/** Asks the judge all that is missing, request by request or in batches, and keeps what it says. */
import { askEach, type Stopping } from "../../endpoint/ask-each.js";
import { type BatchSettings, submitBatches } from "../../endpoint/openai-batch.js";
import { type RequestContext, RequestFailure, type TokenUsage } from "../../endpoint/request.js";
import type { UsageMeter } from "../../endpoint/usage.js";
import { PolypacaError } from "../../errors.js";
import type { Progress } from "../../train/progress.js";
import { describePair } from "../pair-key.js";
import {
  Judge,
  type JudgeEndpointSettings,
  type JudgeOutcome,
  judgeBody,
  ratedAnswer,
  UnratedAnswer,
  unratedOutcome,
} from "./ask-judge.js";
import type { JudgementJournal } from "./journal.js";
import type { JudgePrompt } from "./judge-prompt.js";
import type { Question } from "./questions.js";

interface TallyParts {
  readonly journal: JudgementJournal;
  readonly meter: UsageMeter;
  readonly progress: Progress;
  /** Questions answered by earlier runs. */
  readonly start: number;
  readonly now: () => number;
}

/** Journals each outcome, counts, and shows how far the run is. */
export class Tally {
  /** Why there is no answer, by question. */
  readonly failures = new Map<string, string>();
  readonly #parts: TallyParts;
  readonly #began: number;
  #judged = 0;

  constructor(parts: TallyParts) {
    this.#parts = parts;
    this.#began = parts.now();
  }

  /** Questions that were answered, with a rating or without. */
  get judged(): number {
    return this.#judged;
  }

  answered({ hash, row }: Question, { answer, usage, reason }: JudgeOutcome): void {
    const { journal, progress } = this.#parts;
    journal.answered(hash, answer, usage);
    this.#judged++;
    this.#count(usage);
    if (reason !== null) progress.note(`no rating of ${describePair(row.response)}: ${reason}`);
  }

  failed({ hash }: Question, { message, usage }: RequestFailure): void {
    this.#parts.journal.failed(hash, message);
    this.failures.set(hash, message);
    this.#count(usage);
  }

  /** It is asked again: the answer was paid for, and the next request needs another key. */
  unrated({ hash }: Question, { message, usage }: RequestFailure): void {
    this.#parts.journal.failed(hash, message);
    this.#parts.meter.add(usage);
  }

  #count(usage: TokenUsage | null): void {
    const { meter, progress, start, now } = this.#parts;
    meter.add(usage);
    const done = this.#judged + this.failures.size;
    const seconds = (now() - this.#began) / 1000;
    const rate = seconds > 0 ? `${(done / seconds).toFixed(1)}/s` : "";
    progress.update(start + done, [rate, meter.describe()].filter(Boolean).join(", "));
  }
}

export interface Asking {
  readonly questions: readonly Question[];
  readonly prompt: JudgePrompt;
  readonly journal: JudgementJournal;
  readonly tally: Tally;
  readonly context: RequestContext;
}

/** @throws PolypacaError `CANCELLED`; `INCOMPLETE` where too many requests fail in turn; `USAGE` where none can succeed */
export async function askLive(
  { questions, prompt, journal, tally, context }: Asking,
  settings: JudgeEndpointSettings,
  concurrency: number,
  stopping: Stopping,
): Promise<void> {
  const judge = await Judge.open(settings, context);
  const ask = async (question: Question): Promise<RequestFailure | null> => {
    const key = journal.idempotencyKey(question.hash);
    journal.sent(question.hash);
    const outcome = await judge.ask(prompt.fill(question.pair), key).catch((cause: unknown) => {
      if (cause instanceof RequestFailure) return cause;
      throw cause;
    });
    if (outcome instanceof RequestFailure) {
      tally.failed(question, outcome);
      return outcome;
    }
    tally.answered(question, outcome);
    return null;
  };
  const allFail = (count: number, last: RequestFailure): PolypacaError => {
    const said = `${settings.model}: the last ${count} requests all failed, the latest with: ${last.message}`;
    return new PolypacaError("INCOMPLETE", `${said}. What was judged is kept: mend the cause and run the command again.`, { cause: last });
  };
  await askEach(questions, ask, { concurrency, mostFailuresInTurn: Math.max(10, concurrency), allFail }, stopping);
}

/**
 * Over OpenAI's Batch API. What has no rating is asked again in a further batch, as often as live.
 *
 * @throws PolypacaError `CANCELLED`, `USAGE`, `IO`
 */
export async function askInBatches(asking: Asking, settings: JudgeEndpointSettings & BatchSettings): Promise<void> {
  let open = asking.questions;
  for (let turn = 0; open.length > 0; turn++) open = await askOneRound(asking, open, settings, turn === settings.retry.maxBadAnswers);
}

/** @returns the questions to ask again: none in the last round */
async function askOneRound(
  { prompt, journal, tally, context }: Asking,
  questions: readonly Question[],
  settings: JudgeEndpointSettings & BatchSettings,
  isLast: boolean,
): Promise<readonly Question[]> {
  const byKey = new Map<string, Question>();
  const format = settings.responseFormat === "auto" ? "json_schema" : settings.responseFormat;
  const requests = questions.map((question) => {
    const idempotencyKey = journal.idempotencyKey(question.hash);
    journal.sent(question.hash);
    byKey.set(idempotencyKey, question);
    return { idempotencyKey, body: () => judgeBody(prompt.fill(question.pair), settings, format) };
  });
  const scope = ["judge", settings.model, prompt.version].join("\n");
  const read = (answer: Parameters<typeof ratedAnswer>[0]): JudgeOutcome => ({
    answer: ratedAnswer(answer),
    usage: answer.usage,
    reason: null,
  });
  const again: Question[] = [];
  for await (const { idempotencyKey, outcome } of await submitBatches(requests, { scope, read }, settings, context)) {
    const question = byKey.get(idempotencyKey);
    if (question === undefined) continue;
    if (!(outcome instanceof RequestFailure)) tally.answered(question, outcome);
    else if (!(outcome.cause instanceof UnratedAnswer)) tally.failed(question, outcome);
    else if (isLast) tally.answered(question, unratedOutcome(outcome.cause, outcome.usage, outcome.message));
    else {
      tally.unrated(question, outcome);
      again.push(question);
    }
  }
  return again;
}
