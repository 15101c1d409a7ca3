/** Answers as OpenAI's (older) completions. */
import { type Tokenizer, tokenText } from "../tokenizer/index.js";
import type { AnswerToken, ResponseFormat, ResponseHead } from "./response-format.js";

export interface CompletionOptions {
  readonly hasLogprobs: boolean;
  /** Text that a choice begins with: the prompt, where it is echoed. */
  readonly echoOf: (index: number) => string;
}

export function completionFormat(head: ResponseHead, { hasLogprobs, echoOf }: CompletionOptions, tokenizer: Tokenizer): ResponseFormat {
  const logprobs = (tokens: readonly AnswerToken[]): object | null => (hasLogprobs ? describe(tokens, tokenizer) : null);
  const whole = ({ id, created, model, system_fingerprint }: ResponseHead): object => ({
    ...{ id, object: "text_completion", created, model, system_fingerprint },
  });
  const chunk = (choice: { index: number; text: string; logprobs?: object | null; finish_reason?: string }): object => ({
    ...whole(head),
    choices: [{ logprobs: null, finish_reason: null, ...choice }],
  });
  return {
    whole: (choices, usage) => ({
      ...whole(head),
      choices: choices.map(({ index, text, tokens, finishReason }) => ({
        ...{ index, text: echoOf(index) + text, logprobs: logprobs(tokens), finish_reason: finishReason },
      })),
      usage,
    }),
    opening: (index) => (echoOf(index) === "" ? null : chunk({ index, text: echoOf(index) })),
    part: (index, { text, tokens }) => chunk({ index, text, logprobs: logprobs(tokens) }),
    closing: (index, finishReason) => chunk({ index, text: "", finish_reason: finishReason }),
    usage: (usage) => ({ ...whole(head), choices: [], usage }),
  };
}

function describe(tokens: readonly AnswerToken[], tokenizer: Tokenizer): object {
  const name = (id: number): string => tokenText(tokenizer, id);
  return {
    tokens: tokens.map(({ decoded }) => name(decoded.token)),
    token_logprobs: tokens.map(({ decoded }) => decoded.logprob),
    // The token that was chosen is there too, so there may be one more than was asked for.
    top_logprobs: tokens.map(({ decoded: { token, logprob, top } }) => {
      const best = new Map(top.map((candidate) => [name(candidate.token), candidate.logprob]).reverse() as [string, number][]);
      return Object.fromEntries(best.set(name(token), logprob));
    }),
    text_offset: tokens.map(({ offset }) => offset),
  };
}
