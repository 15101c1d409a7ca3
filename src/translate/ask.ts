/** Asks a provider for the segments of one language that the journal does not have. */

import { askEach, Stopping } from "../endpoint/ask-each.js";
import { type RequestContext, RequestFailure, type TokenUsage } from "../endpoint/request.js";
import { PolypacaError } from "../errors.js";
import type { Corpus } from "./corpus.js";
import type { TranslationJournal } from "./journal.js";
import {
  type BatchOutcome,
  type BatchProvider,
  type LanguagePair,
  type LiveProvider,
  MisalignedAnswers,
  type SegmentRequest,
  type TranslationSession,
} from "./providers/provider.js";

export interface AskEnvironment {
  readonly note: (line: string) => void;
  readonly now: () => number;
  readonly random: () => number;
  readonly signal?: AbortSignal;
}

/** Of one language. */
export interface Question {
  readonly pair: LanguagePair;
  readonly corpus: Corpus;
  readonly journal: TranslationJournal;
  /** Of the segments to ask for. */
  readonly indices: readonly number[];
  readonly onAnswer: (index: number, usage: TokenUsage | null) => void;
  /** Unusable answers are paid for too. */
  readonly onFailure: (index: number, reason: string, usage: TokenUsage | null) => void;
}

/**
 * Asks a live provider, as many segments at a time as it takes. Each answer is in the journal before the next segment is asked for.
 *
 * @throws PolypacaError `CANCELLED` when stopped; `INCOMPLETE` where too many segments fail in turn; what the provider throws
 */
export async function askLive(provider: LiveProvider, question: Question, environment: AskEnvironment): Promise<void> {
  const stopping = new Stopping(environment.signal);
  const { note, now, random } = environment;
  const context: RequestContext = { note, now, random, stop: stopping.stop, abort: stopping.abort };
  const mark = question.journal.mark();
  let session: TranslationSession | null = null;
  try {
    session = await provider.open(question.pair, context);
    await askAll(provider, session, question, stopping);
    await session.end();
  } catch (cause) {
    if (!(cause instanceof MisalignedAnswers)) throw cause;
    question.journal.discardSince(mark);
    throw new PolypacaError("BAD_DATA", `${cause.message} What this run had from it is discarded.`, { cause });
  } finally {
    session?.abandon();
    stopping.release();
  }
}

async function askAll(provider: LiveProvider, session: TranslationSession, question: Question, stopping: Stopping): Promise<void> {
  const { corpus, journal, indices, onAnswer, onFailure } = question;
  const ask = async (index: number): Promise<RequestFailure | null> => {
    const hash = corpus.hashes[index]!;
    const request = { text: corpus.segments[index]!, idempotencyKey: journal.idempotencyKey(hash) };
    journal.sent(hash);
    const outcome = await session.translate(request).catch((cause: unknown) => {
      if (cause instanceof RequestFailure) return cause;
      throw cause;
    });
    record(journal, hash, outcome);
    if (outcome instanceof RequestFailure) {
      onFailure(index, outcome.message, outcome.usage);
      return outcome;
    }
    onAnswer(index, outcome.usage);
    return null;
  };
  const { concurrency, mostFailuresInTurn } = provider;
  const allFail = (count: number, last: RequestFailure): PolypacaError => allSegmentsFail(provider, count, last);
  await askEach(indices, ask, { concurrency, mostFailuresInTurn, allFail }, stopping);
}

function record(journal: TranslationJournal, hash: string, outcome: BatchOutcome["outcome"]): void {
  if (outcome instanceof RequestFailure) journal.failed(hash, outcome.message);
  else journal.answered(hash, { text: outcome.text }, outcome.usage);
}

function allSegmentsFail({ name }: LiveProvider, count: number, last: RequestFailure): PolypacaError {
  const advice = "What was translated is kept: mend the cause and run the command again.";
  return new PolypacaError("INCOMPLETE", `${name}: the last ${count} segments all failed, the latest with: ${last.message}. ${advice}`, {
    cause: last,
  });
}

/** What was submitted for a language; its answers come later. */
export type PendingBatches = AsyncIterable<BatchOutcome>;

/** Submits the segments to a batch provider; nothing is waited for. */
export async function submitBatches(
  provider: BatchProvider,
  { pair, corpus, journal, indices }: Pick<Question, "pair" | "corpus" | "journal" | "indices">,
  environment: AskEnvironment,
): Promise<PendingBatches> {
  const requests = indices.map((index): SegmentRequest => {
    const hash = corpus.hashes[index]!;
    const request = { text: corpus.segments[index]!, idempotencyKey: journal.idempotencyKey(hash) };
    journal.sent(hash);
    return request;
  });
  const stop = environment.signal ?? new AbortController().signal;
  const scope = [provider.name, provider.model, pair.source, pair.target].join("\n");
  return await provider.submit(scope, pair, requests, { ...environment, stop, abort: stop });
}

/** Waits for the answers of what was submitted. */
export async function collectBatches(pending: PendingBatches, question: Question): Promise<void> {
  const { corpus, journal, indices, onAnswer, onFailure } = question;
  const byKey = new Map(indices.map((index) => [journal.idempotencyKey(corpus.hashes[index]!), index]));
  for await (const { idempotencyKey, outcome } of pending) {
    const index = byKey.get(idempotencyKey);
    if (index === undefined) continue;
    record(journal, corpus.hashes[index]!, outcome);
    if (outcome instanceof RequestFailure) onFailure(index, outcome.message, outcome.usage);
    else onAnswer(index, outcome.usage);
  }
}
