/** Answers as OpenAI's chat completions. */
import { type Tokenizer, tokenText } from "../tokenizer/index.js";
import type { AnswerToken, ResponseFormat, ResponseHead } from "./response-format.js";

interface ChatLogprob {
  /** A byte that is only a part of a character as "<0xE4>". */
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

/** @param hasLogprobs whether they were asked for */
export function chatFormat(head: ResponseHead, hasLogprobs: boolean, tokenizer: Tokenizer): ResponseFormat {
  const logprobs = (tokens: readonly AnswerToken[]): object | null =>
    hasLogprobs ? { content: tokens.map((token) => describe(token, tokenizer)), refusal: null } : null;
  const chunk = (index: number, delta: object, parts: { logprobs?: object | null; finish_reason?: string }): object => ({
    ...withKind(head, "chat.completion.chunk"),
    choices: [{ index, delta, logprobs: null, finish_reason: null, ...parts }],
  });
  return {
    whole: (choices, usage) => ({
      ...withKind(head, "chat.completion"),
      choices: choices.map(({ index, text, tokens, finishReason }) => ({
        ...{ index, message: { role: "assistant", content: text, refusal: null } },
        ...{ logprobs: logprobs(tokens), finish_reason: finishReason },
      })),
      usage,
    }),
    opening: (index) => chunk(index, { role: "assistant", content: "" }, {}),
    part: (index, { text, tokens }) => chunk(index, { content: text }, { logprobs: logprobs(tokens) }),
    closing: (index, finishReason) => chunk(index, {}, { finish_reason: finishReason }),
    usage: (usage) => ({ ...withKind(head, "chat.completion.chunk"), choices: [], usage }),
  };
}

function withKind({ id, created, model, system_fingerprint }: ResponseHead, object: string): object {
  return { id, object, created, model, system_fingerprint };
}

function describe({ decoded }: AnswerToken, tokenizer: Tokenizer): ChatLogprob & { readonly top_logprobs: readonly ChatLogprob[] } {
  const of = ({ token, logprob }: { readonly token: number; readonly logprob: number }): ChatLogprob => ({
    ...{ token: tokenText(tokenizer, token), logprob, bytes: [...tokenizer.bytes(token)] },
  });
  return { ...of(decoded), top_logprobs: decoded.top.map(of) };
}
