/** What translates: the interface between the runner, which plans, journals and writes, and whatever gives the translations. */

import type { RequestContext, RequestFailure, TokenUsage } from "../../endpoint/request.js";

export interface LanguagePair {
  readonly source: string;
  readonly target: string;
}

/** A segment to translate: text without line breaks, at most the provider's `maxCharacters` long. */
export interface SegmentRequest {
  readonly text: string;
  /** The same for the same segment, also after a kill: a service that honours it does not do (or charge) the work twice. */
  readonly idempotencyKey: string;
}

export interface SegmentAnswer {
  readonly text: string;
  /** Answers that could not be used, and were paid for before this one, included; null where the provider does not report it. */
  readonly usage: TokenUsage | null;
}

interface ProviderIdentity {
  /** With `model`, part of the journal's key: what another provider or model translated is asked for again. */
  readonly name: string;
  readonly model: string;
  /** Longest segment, in UTF-16 units. */
  readonly maxCharacters: number;
  /** Whether neighbouring sentences of a line come as one segment (models that use what stands around a sentence) or one by one. */
  readonly joinSentences: boolean;
}

/** Answers segment by segment. */
export interface LiveProvider extends ProviderIdentity {
  readonly kind: "live";
  /** Segments asked for at a time. */
  readonly concurrency: number;
  /** Segments that fail in turn, none being answered, after which the run ends: the next ones would fail too, and each costs time. */
  readonly mostFailuresInTurn: number;
  open(pair: LanguagePair, context: RequestContext): Promise<TranslationSession>;
}

export interface TranslationSession {
  /** @throws RequestFailure where this segment has no translation; PolypacaError where going on makes no sense (`CANCELLED` when stopped) */
  translate(request: SegmentRequest): Promise<SegmentAnswer>;
  /**
   * Ends the session after the last answer.
   *
   * @throws MisalignedAnswers where only now it shows that the answers cannot be trusted
   */
  end(): Promise<void>;
  /** Ends it at once, whatever is under way. Idempotent, also after `end`. */
  abandon(): void;
}

/** Answers were given to the wrong segments: all of the session are discarded. */
export class MisalignedAnswers extends Error {
  override readonly name = "MisalignedAnswers";
}

/** Answers all segments of a language some hours later. */
export interface BatchProvider extends ProviderIdentity {
  readonly kind: "batch";
  /**
   * Finds what was submitted before, submits the rest, and returns without waiting for answers, so that every language can be under
   * way before the first is waited for.
   *
   * @param scope names provider, model and language pair
   */
  submit(
    scope: string,
    pair: LanguagePair,
    requests: readonly SegmentRequest[],
    context: RequestContext,
  ): Promise<AsyncIterable<BatchOutcome>>;
}

/** What became of one request of a batch. */
export interface BatchOutcome {
  readonly idempotencyKey: string;
  readonly outcome: SegmentAnswer | RequestFailure;
}

export type TranslationProvider = LiveProvider | BatchProvider;
