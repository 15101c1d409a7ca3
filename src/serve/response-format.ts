/** What both kinds of answers are made of, whole or as chunks of a stream. */
import type { DecodedToken } from "../generate/continuous-batch.js";
import type { AnswerEnd } from "./answer-sequence.js";
import type { AnswerPart, PlacedToken } from "./answer-text.js";

export type AnswerToken = PlacedToken<DecodedToken>;
export type FinishReason = AnswerEnd["finishReason"];

export interface FinishedChoice {
  readonly index: number;
  readonly text: string;
  readonly tokens: readonly AnswerToken[];
  readonly finishReason: FinishReason;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** What every object of a response carries. */
export interface ResponseHead {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export interface ResponseFormat {
  whole(choices: readonly FinishedChoice[], usage: Usage): object;
  /** Before a choice's first part; null: nothing. */
  opening(index: number): object | null;
  part(index: number, part: AnswerPart<DecodedToken>): object;
  closing(index: number, finishReason: FinishReason): object;
  /** The last chunk, where it was asked for. */
  usage(usage: Usage): object;
}
