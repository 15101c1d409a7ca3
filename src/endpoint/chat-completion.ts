/** What a chat completion says; it is whatever the server sent. */

import type { TokenUsage } from "./request.js";
import { BadAnswer } from "./retry.js";

/** How the endpoint is told to answer in JSON; `none`: by the instructions alone, for servers that know neither form. */
export const responseFormats = ["json_object", "json_schema", "none"] as const;
export type ResponseFormat = (typeof responseFormats)[number];

/** `response_format` of a chat request. */
export type ResponseFormatField = {
  readonly response_format?:
    | { type: "json_object" }
    | { type: "json_schema"; json_schema: { name: string; strict: true; schema: Record<string, unknown> } };
};

/** @param properties of the answer, as JSON schema; all are required, in this order */
export function responseFormatField(
  format: ResponseFormat,
  name: string,
  properties: Readonly<Record<string, object>>,
): ResponseFormatField {
  if (format === "none") return {};
  if (format === "json_object") return { response_format: { type: "json_object" } };
  const schema = { type: "object", properties, required: Object.keys(properties), additionalProperties: false };
  return { response_format: { type: "json_schema", json_schema: { name, strict: true, schema } } };
}

export interface ChatAnswer {
  /** Empty where the answer was refused or withheld. */
  readonly content: string;
  /** What the service says in `refusal`; null: nothing. */
  readonly refusal: string | null;
  /** Withheld by the service's content filter. */
  readonly isWithheld: boolean;
  /** Ended by the limit of tokens. */
  readonly isCutOff: boolean;
  readonly usage: TokenUsage | null;
}

/** @throws BadAnswer where it is no chat completion */
export function chatAnswerOf(completion: unknown): ChatAnswer {
  const usage = usageOf(completion);
  const choice = field(field(completion, "choices"), 0);
  const message = field(choice, "message");
  const [said, content, reason] = [field(message, "refusal"), field(message, "content"), field(choice, "finish_reason")];
  const refusal = typeof said === "string" && said !== "" ? said : null;
  const isWithheld = reason === "content_filter";
  if (typeof content !== "string" && refusal === null && !isWithheld)
    throw new BadAnswer(`not a chat completion: ${excerpt(completion)}`, usage);
  return { content: typeof content === "string" ? content : "", refusal, isWithheld, isCutOff: reason === "length", usage };
}

/** How chat models begin to refuse, in English, whatever the language asked for. */
const refusalOpenings =
  /^\s*(?:(?:i['’]?m|i am|we are) (?:really |very )?sorry\b|sorry, |(?:i['’]?m|i am) (?:unable|not able) to\b|i (?:can['’]?t|cannot|can not|won['’]?t) (?:assist|help|translate|comply|provide|fulfil)|as an ai\b)/i;

export function isRefusal(text: string): boolean {
  return refusalOpenings.test(text);
}

function usageOf(completion: unknown): TokenUsage | null {
  const usage = field(completion, "usage");
  const [inputTokens, outputTokens] = [field(usage, "prompt_tokens"), field(usage, "completion_tokens")];
  return typeof inputTokens === "number" && typeof outputTokens === "number" ? { inputTokens, outputTokens } : null;
}

/** JSON, also where the model put it in a code fence; undefined for anything else. */
export function parseJson(content: string): unknown {
  const fenced = /^\s*```(?:json)?\s*\n([\s\S]*?)\n\s*```\s*$/.exec(content);
  try {
    return JSON.parse(fenced?.[1] ?? content) as unknown;
  } catch {
    return undefined;
  }
}

/** Of an object or array; undefined where there is none. */
export function field(value: unknown, name: string | number): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string | number, unknown>)[name] : undefined;
}

/** For messages. */
export function excerpt(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 120 ? `${JSON.stringify(text.slice(0, 120))}…` : JSON.stringify(text);
}
