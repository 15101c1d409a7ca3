/** Any endpoint that speaks OpenAI's chat protocol, through the openai package. */
import type OpenAI from "openai";
import { PolypacaError } from "../../errors.js";
import { type ChatOptions, type ChatTranslation, chatBody, translationOf } from "./openai-chat.js";
import type { LanguagePair, LiveProvider, ProviderContext, SegmentAnswer, SegmentRequest, TranslationSession } from "./provider.js";
import { RateLimiter, type RateLimits } from "./rate-limit.js";
import { BadAnswer, ConnectionFault, HttpFault, type RetryPolicy, retryAfterMs, withRetries, withTimeout } from "./retry.js";

export interface OpenAiEndpoint {
  /** null: OpenAI's own, or OPENAI_BASE_URL. */
  readonly baseUrl: string | null;
  readonly apiKey: string;
  /** Of one request, until the whole answer is there. */
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
}

export interface OpenAiSettings extends OpenAiEndpoint, ChatOptions, RateLimits {
  /** Requests at a time. */
  readonly concurrency: number;
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
}

export const openAiName = "openai";

export function openAiProvider(settings: OpenAiSettings): LiveProvider {
  const { model, concurrency, maxCharacters, joinSentences } = settings;
  let shared: Promise<{ readonly client: OpenAI; readonly limiter: RateLimiter }> | null = null;
  return {
    ...{ kind: "live", name: openAiName, model, concurrency, maxCharacters, joinSentences },
    mostFailuresInTurn: Math.max(10, concurrency),
    open: async (pair, context) => {
      // One limiter for all languages: the limits are the account's.
      shared ??= openAiClient(settings).then((client) => ({ client, limiter: new RateLimiter(settings, context.now) }));
      const { client, limiter } = await shared;
      return new OpenAiSession(settings, pair, context, client, limiter);
    },
  };
}

/** Loaded only when it is needed: the package takes 0.1 s to import. The package's own retries are off, since ours are logged. */
export async function openAiClient({ apiKey, baseUrl }: OpenAiEndpoint): Promise<OpenAI> {
  const { default: OpenAI } = await import("openai");
  // Its own timer ends with the headers; ours (withTimeout) is the only one.
  return new OpenAI({ apiKey, maxRetries: 0, timeout: 2 ** 31 - 1, ...(baseUrl !== null && { baseURL: baseUrl }) });
}

class OpenAiSession implements TranslationSession {
  readonly #settings: OpenAiSettings;
  readonly #pair: LanguagePair;
  readonly #context: ProviderContext;
  readonly #client: OpenAI;
  readonly #limiter: RateLimiter;

  constructor(settings: OpenAiSettings, pair: LanguagePair, context: ProviderContext, client: OpenAI, limiter: RateLimiter) {
    this.#settings = settings;
    this.#pair = pair;
    this.#context = context;
    this.#client = client;
    this.#limiter = limiter;
  }

  translate({ text, idempotencyKey }: SegmentRequest): Promise<SegmentAnswer> {
    const hooks = {
      ...{ who: openAiName, context: this.#context, hopeless: hopelessReason },
      onPause: (milliseconds: number) => this.#limiter.pause(milliseconds),
    };
    return withRetries((badAnswers) => this.#attempt(text, keyOfTurn(idempotencyKey, badAnswers)), this.#settings.retry, hooks);
  }

  async #attempt(text: string, idempotencyKey: string): Promise<ChatTranslation> {
    const { timeoutMs } = this.#settings;
    const body = chatBody(text, this.#pair, this.#settings);
    const estimate = estimatedTokens(text);
    await this.#limiter.acquire(estimate, this.#context.stop);
    const headers = { "Idempotency-Key": idempotencyKey };
    const completion: unknown = await withTimeout(
      (signal) =>
        this.#client.chat.completions.create(body, { headers, signal }).catch((cause: unknown) => throwFault(cause, this.#context)),
      timeoutMs,
      this.#context.abort,
    );
    const translation = translationOf(completion, text);
    if (translation.usage !== null) this.#limiter.settle(estimate, translation.usage.inputTokens + translation.usage.outputTokens);
    return translation;
  }

  async end(): Promise<void> {}

  abandon(): void {}
}

/** A service that honours the key would give the same unusable answer again. */
export function keyOfTurn(idempotencyKey: string, badAnswers: number): string {
  return badAnswers === 0 ? idempotencyKey : `${idempotencyKey}-${badAnswers}`;
}

/** The instructions, and the text twice; some 3 characters to the token, more in English and fewer elsewhere. */
function estimatedTokens(text: string): number {
  return 150 + Math.ceil((2 * text.length) / 3);
}

/** What the openai package throws, in our own terms. */
export async function throwFault(cause: unknown, { now }: Pick<ProviderContext, "now">): Promise<never> {
  const { APIConnectionError, APIError } = await import("openai");
  if (cause instanceof APIError && typeof cause.status === "number") {
    const wait = retryAfterMs((name) => cause.headers?.get(name) ?? null, now());
    throw new HttpFault(cause.status, serverMessage(cause), { retryAfterMs: wait, code: cause.code ?? null });
  }
  if (cause instanceof SyntaxError) throw new BadAnswer(`the response is not valid JSON (${cause.message})`);
  // A body that breaks off is a TypeError of fetch's.
  if (cause instanceof APIConnectionError || cause instanceof TypeError) {
    const why = cause.cause instanceof Error && cause.cause.message !== "" ? `: ${cause.cause.message}` : "";
    throw new ConnectionFault(`${cause.message.replace(/\.$/, "")}${why}`, { cause });
  }
  throw cause;
}

/** The package puts the status before what the server said. */
function serverMessage({ status, message }: { readonly status?: number | undefined; readonly message: string }): string {
  const said = message.replace(new RegExp(`^${status} ?`), "").replace(/^status code \(no body\)$/, "");
  return said.length > 300 ? `${said.slice(0, 300)}…` : said;
}

/** Errors that every request would meet. */
export function hopelessReason({ status, code }: HttpFault): string | null {
  if (status === 401 || status === 403) return "Check the API key (--api-key-env) and --base-url.";
  if (status === 404) return "Check --model and --base-url (most end in /v1).";
  if (code === "insufficient_quota")
    return "The account has no credit left. What was translated is kept: run the command again afterwards.";
  return null;
}

/** @throws PolypacaError `USAGE` where the variable is not set */
export function apiKeyFrom(environment: Readonly<Record<string, string | undefined>>, variable: string): string {
  const key = environment[variable]?.trim() ?? "";
  if (key !== "") return key;
  const advice =
    "Set it to the endpoint's API key (to any text for a server that asks for none), or name another variable by --api-key-env.";
  throw new PolypacaError("USAGE", `--provider openai: the environment variable ${variable} is not set. ${advice}`);
}
