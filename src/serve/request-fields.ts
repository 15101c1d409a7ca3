/** The fields that chat completions and completions share: what is done, what is refused, and what is taken as metadata. */
import { z } from "zod";
import type { ChatMessage } from "./chat-messages.js";

/** A request for answers, of either kind, with the defaults filled in. */
export interface DecodingRequest {
  /** Base model or adapter. */
  readonly model: string;
  /** null: what the context has room for. */
  readonly maxTokens: number | null;
  readonly minTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  /** null: any. */
  readonly seed: number | null;
  readonly repetitionPenalty: number;
  readonly noRepeatNgramSize: number;
  readonly stops: readonly string[];
  /** Answers to each prompt. */
  readonly choices: number;
  /** Likeliest tokens reported with each; null: no log-probabilities. */
  readonly topLogprobs: number | null;
  readonly isStream: boolean;
  /** A last chunk of the stream with the usage. */
  readonly includesUsage: boolean;
}

export interface ChatRequest extends DecodingRequest {
  readonly messages: readonly ChatMessage[];
}

export interface CompletionRequest extends DecodingRequest {
  /** Texts, or ids as they are. */
  readonly prompts: readonly (string | readonly number[])[];
  /** The answer begins with the prompt. */
  readonly isEchoed: boolean;
}

/** The engine reports so many at most. */
export const mostTopLogprobs = 20;
const mostChoices = 128; // OpenAI's
const mostStops = 4; // OpenAI's
const longestStop = 256;

/**
 * A parameter of OpenAI's that asks for something this server does not do: taken where its value asks for nothing, else refused.
 *
 * @param what completes "… is not supported"
 */
export function unsupported(what: string, ...neutral: readonly unknown[]): z.ZodType {
  const values = new Set([null, ...neutral].map((value) => JSON.stringify(value)));
  const error =
    neutral.length > 0
      ? `${what} not supported; leave it out, or at ${[...values].slice(1).join(" or ")}`
      : `${what} not supported; leave it out`;
  return z
    .custom((value) => value === undefined || values.has(JSON.stringify(value)), { error, params: { isUnsupported: true } })
    .optional();
}

const stop = z.string().min(1, "expected a text that is not empty").max(longestStop, `expected at most ${longestStop} characters`);
const share = z.number().min(0).max(1);
const count = z.int().min(0);

/** Clients send these for their own bookkeeping, or as hints that change no answer. */
const metadata = {
  user: z.string().nullish(),
  metadata: z.record(z.string(), z.unknown()).nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  prompt_cache_retention: z.string().nullish(),
  service_tier: unsupported("a service tier is", "auto", "default"),
  store: unsupported("keeping answers is", false),
};

export const sharedFields = {
  ...metadata,
  model: z.string().min(1),
  max_tokens: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: share.nullish(),
  seed: z
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER - mostChoices)
    .nullish(), // further choices add to it
  n: z.int().min(1).max(mostChoices).nullish(),
  stop: z
    .unknown()
    .transform((value) => (typeof value === "string" ? [value] : (value ?? [])))
    .pipe(z.array(stop, "expected a text or a list of texts").max(mostStops, `expected at most ${mostStops} stop strings`))
    .optional(),
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: unsupported("obfuscation is", false) })
    .nullish(),
  // Under vLLM's names.
  top_k: z.int().min(-1).nullish(),
  repetition_penalty: z.number().min(0.01).max(100).nullish(),
  min_tokens: count.nullish(),
  no_repeat_ngram_size: count.nullish(),
  frequency_penalty: unsupported("a frequency penalty is", 0),
  presence_penalty: unsupported("a presence penalty is", 0),
  logit_bias: unsupported("a bias of single tokens is", {}),
};

/** Fields as the schema gives them. */
export type SharedFields = { readonly [name in keyof typeof sharedFields]?: z.output<(typeof sharedFields)[name]> };

/**
 * Defaults are OpenAI's, for what it has: temperature 1 above all.
 *
 * @param maxTokens of the request's kind; undefined: the request does not say
 */
export function decodingOf(
  fields: SharedFields,
  { maxTokens, topLogprobs }: { readonly maxTokens: number | null; readonly topLogprobs: number | null },
): DecodingRequest {
  return {
    ...{ model: fields.model!, maxTokens, topLogprobs, minTokens: fields.min_tokens ?? 0 },
    ...likeliest(fields),
    seed: fields.seed ?? null,
    ...{ repetitionPenalty: fields.repetition_penalty ?? 1, noRepeatNgramSize: fields.no_repeat_ngram_size ?? 0 },
    ...{ stops: fields.stop ?? [], choices: fields.n ?? 1 },
    ...{ isStream: fields.stream ?? false, includesUsage: fields.stream_options?.include_usage ?? false },
  };
}

/** Below these, nothing but the likeliest token would be drawn, with numbers that fp32 has no room for. */
const leastTemperature = 1e-4;
const leastTopP = 1e-6;

function likeliest(fields: SharedFields): Pick<DecodingRequest, "temperature" | "topP" | "topK"> {
  const temperature = fields.temperature ?? 1;
  const topP = fields.top_p ?? 1;
  const isGreedy = temperature < leastTemperature || topP < leastTopP;
  return isGreedy ? { temperature: 0, topP: 1, topK: 0 } : { temperature, topP, topK: Math.max(0, fields.top_k ?? 0) };
}
