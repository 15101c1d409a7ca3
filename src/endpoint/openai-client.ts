/** Any endpoint that speaks OpenAI's chat protocol, through the openai package. */
import type OpenAI from "openai";
import { PolypacaError } from "../errors.js";
import { type ChatAnswer, chatAnswerOf } from "./chat-completion.js";
import { RateLimiter, type RateLimits } from "./rate-limit.js";
import type { RequestContext } from "./request.js";
import { BadAnswer, ConnectionFault, HttpFault, type RetryPolicy, retryAfterMs, withTimeout } from "./retry.js";

export interface OpenAiEndpoint {
  /** null: OpenAI's own, or OPENAI_BASE_URL. */
  readonly baseUrl: string | null;
  readonly apiKey: string;
  /** Of one request, until the whole answer is there. */
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
}

export type ChatBody = OpenAI.ChatCompletionCreateParamsNonStreaming;

/** Loaded only when it is needed: the package takes 0.1 s to import. The package's own retries are off, since ours are logged. */
export async function openAiClient({ apiKey, baseUrl }: Pick<OpenAiEndpoint, "apiKey" | "baseUrl">): Promise<OpenAI> {
  const { default: OpenAI } = await import("openai");
  // Its own timer ends with the headers; ours (withTimeout) is the only one.
  return new OpenAI({ apiKey, maxRetries: 0, timeout: 2 ** 31 - 1, ...(baseUrl !== null && { baseURL: baseUrl }) });
}

/** An endpoint's client with the limits of the account. */
export class ChatEndpoint {
  readonly #client: OpenAI;
  readonly #limiter: RateLimiter;
  readonly #timeoutMs: number;

  private constructor(client: OpenAI, limiter: RateLimiter, timeoutMs: number) {
    this.#client = client;
    this.#limiter = limiter;
    this.#timeoutMs = timeoutMs;
  }

  /** @param now milliseconds */
  static async open(settings: OpenAiEndpoint & RateLimits, now: () => number): Promise<ChatEndpoint> {
    return new ChatEndpoint(await openAiClient(settings), new RateLimiter(settings, now), settings.timeoutMs);
  }

  /**
   * Makes one request, once.
   *
   * @param estimatedTokens input and output together
   * @throws ConnectionFault, HttpFault, BadAnswer; an AbortError when stopped
   */
  async complete(body: ChatBody, idempotencyKey: string, estimatedTokens: number, context: RequestContext): Promise<ChatAnswer> {
    await this.#limiter.acquire(estimatedTokens, context.stop);
    const headers = { "Idempotency-Key": idempotencyKey };
    const completion: unknown = await withTimeout(
      (signal) => this.#client.chat.completions.create(body, { headers, signal }).catch((cause: unknown) => throwFault(cause, context)),
      this.#timeoutMs,
      context.abort,
    );
    const answer = chatAnswerOf(completion);
    if (answer.usage !== null) this.#limiter.settle(estimatedTokens, answer.usage.inputTokens + answer.usage.outputTokens);
    return answer;
  }

  /** Nothing starts for so long. */
  pause(milliseconds: number): void {
    this.#limiter.pause(milliseconds);
  }
}

/** A service that honours the key would give the same unusable answer again. */
export function keyOfTurn(idempotencyKey: string, badAnswers: number): string {
  return badAnswers === 0 ? idempotencyKey : `${idempotencyKey}-${badAnswers}`;
}

/** What the openai package throws, in our own terms. */
export async function throwFault(cause: unknown, { now }: Pick<RequestContext, "now">): Promise<never> {
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
  if (code === "insufficient_quota") return "The account has no credit left. What was answered is kept: run the command again afterwards.";
  return null;
}

/** @throws PolypacaError `USAGE` where the variable is not set */
export function apiKeyFrom(environment: Readonly<Record<string, string | undefined>>, variable: string): string {
  const key = environment[variable]?.trim() ?? "";
  if (key !== "") return key;
  const advice =
    "Set it to the endpoint's API key (to any text for a server that asks for none), or name another variable by --api-key-env.";
  throw new PolypacaError("USAGE", `the environment variable ${variable} is not set. ${advice}`);
}
