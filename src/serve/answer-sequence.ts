/** One sequence of the batch as an answer: tokens to text, until it ends or nobody wants it any more. */
import type { ContinuousBatch, DecodedToken, SequenceOptions } from "../generate/continuous-batch.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type AnswerForm, type AnswerPart, AnswerText } from "./answer-text.js";

/** What is used of the engine. */
export type SequenceEngine = Pick<ContinuousBatch, "slots" | "maxLength" | "running" | "waiting" | "decode" | "close">;

export interface SequencePlan {
  readonly prompt: Int32Array;
  readonly options: SequenceOptions;
  readonly form: AnswerForm;
  /** Tokens besides EOS that end the answer. */
  readonly stopTokenIds: ReadonlySet<number>;
}

export interface AnswerEnd {
  readonly finishReason: "stop" | "length";
  /** Generated, EOS and the tokens of a stop string included. */
  readonly tokens: number;
}

export interface SequenceContext {
  readonly engine: Pick<SequenceEngine, "decode">;
  readonly tokenizer: Tokenizer;
  /** Aborted: the sequence leaves the batch, and the signal's reason is thrown. */
  readonly signal: AbortSignal;
  readonly onToken: () => void;
  /** The sequence holds no place any more. */
  readonly onLeft: (isComplete: boolean) => void;
}

/** Tokens are taken as fast as the parts are: a slow reader takes few. */
export async function* answerSequence(
  plan: SequencePlan,
  context: SequenceContext,
): AsyncGenerator<AnswerPart<DecodedToken>, AnswerEnd, undefined> {
  const { engine, signal, onToken, onLeft } = context;
  const text = new AnswerText<DecodedToken>(context.tokenizer, plan.form);
  let tokens = 0;
  let finishReason: AnswerEnd["finishReason"] | null = null;
  try {
    for await (const decoded of engine.decode(plan.prompt, plan.options, signal)) {
      tokens++;
      onToken();
      const isEnd = decoded.finish === "stop" || plan.stopTokenIds.has(decoded.token);
      if (!isEnd) yield text.push(decoded);
      finishReason = isEnd || text.isStopped ? "stop" : decoded.finish;
      if (finishReason !== null) break;
    }
    if (finishReason === null) throw new Error("the engine ended a sequence without saying why");
    yield text.end();
    return { finishReason, tokens };
  } catch (cause) {
    if (signal.aborted) throw signal.reason; // says more than CANCELLED
    throw cause;
  } finally {
    onLeft(finishReason !== null);
  }
}
