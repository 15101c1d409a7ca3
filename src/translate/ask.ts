/** Asks a provider for the segments of one language that the journal does not have. */
import { PolypacaError } from "../errors.js";
import type { Corpus } from "./corpus.js";
import type { Journal } from "./journal.js";
import {
  type BatchOutcome,
  type BatchProvider,
  type LanguagePair,
  type LiveProvider,
  MisalignedAnswers,
  type ProviderContext,
  SegmentFailure,
  type SegmentRequest,
  type TokenUsage,
  type TranslationSession,
} from "./providers/provider.js";

/** How long requests under way may still answer after a stop: they are paid for. */
const graceMs = 5_000;

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
  readonly journal: Journal;
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
  const context: ProviderContext = { note, now, random, stop: stopping.stop, abort: stopping.abort };
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

/** A soft stop (Ctrl-C, or an error that ends the run) and, some seconds later, a hard one. */
class Stopping {
  readonly #stop = new AbortController();
  readonly #abort = new AbortController();
  readonly #user: AbortSignal | undefined;
  readonly #onUser = (): void => this.begin();
  #timer: NodeJS.Timeout | null = null;

  constructor(user: AbortSignal | undefined) {
    this.#user = user;
    user?.addEventListener("abort", this.#onUser, { once: true });
    if (user?.aborted) this.begin();
  }

  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  get abort(): AbortSignal {
    return this.#abort.signal;
  }

  begin(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#timer = setTimeout(() => this.#abort.abort(), graceMs);
  }

  release(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#user?.removeEventListener("abort", this.#onUser);
  }
}

async function askAll(provider: LiveProvider, session: TranslationSession, question: Question, stopping: Stopping): Promise<void> {
  const { corpus, journal, indices, onAnswer, onFailure } = question;
  let next = 0;
  let failuresInTurn = 0;
  const askOne = async (index: number): Promise<void> => {
    const hash = corpus.hashes[index]!;
    const request = { text: corpus.segments[index]!, idempotencyKey: journal.idempotencyKey(hash) };
    journal.sent(hash);
    const outcome = await session.translate(request).catch((cause: unknown) => {
      if (cause instanceof SegmentFailure) return cause;
      throw cause;
    });
    record(journal, hash, outcome);
    if (!(outcome instanceof SegmentFailure)) {
      failuresInTurn = 0;
      onAnswer(index, outcome.usage);
      return;
    }
    onFailure(index, outcome.message, outcome.usage);
    if (++failuresInTurn >= provider.mostFailuresInTurn) throw allFail(provider, failuresInTurn, outcome);
  };
  const work = async (): Promise<void> => {
    while (next < indices.length && !stopping.stop.aborted) {
      await askOne(indices[next++]!).catch((cause: unknown) => {
        stopping.begin(); // the others finish what they have, and ask for nothing new
        throw cause;
      });
    }
  };
  const workers = Array.from({ length: Math.min(provider.concurrency, indices.length) }, work);
  const ends = (await Promise.allSettled(workers)).filter((end) => end.status === "rejected").map(({ reason }) => reason as unknown);
  // What began the stop says more than what followed from it.
  const cause = ends.find((end) => !isCancelled(end)) ?? ends[0];
  if (cause !== undefined) throw cause;
  if (next < indices.length) throw new PolypacaError("CANCELLED", "stopped");
}

function record(journal: Journal, hash: string, outcome: BatchOutcome["outcome"]): void {
  if (outcome instanceof SegmentFailure) journal.failed(hash, outcome.message);
  else journal.answered(hash, outcome.text, outcome.usage);
}

export function isCancelled(cause: unknown): boolean {
  return cause instanceof PolypacaError && cause.code === "CANCELLED";
}

function allFail({ name }: LiveProvider, count: number, last: SegmentFailure): PolypacaError {
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
    if (outcome instanceof SegmentFailure) onFailure(index, outcome.message, outcome.usage);
    else onAnswer(index, outcome.usage);
  }
}
