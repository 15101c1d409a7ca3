/** LibreTranslate's HTTP interface (https://libretranslate.com/docs), the public one or a server of one's own. */

import { excerpt } from "../../endpoint/chat-completion.js";
import { postJson } from "../../endpoint/http-json.js";
import { RateLimiter, type RateLimits } from "../../endpoint/rate-limit.js";
import type { RequestContext } from "../../endpoint/request.js";
import { BadAnswer, type HttpFault, type RetryPolicy, withRetries, withTimeout } from "../../endpoint/retry.js";
import type { LanguagePair, LiveProvider, SegmentAnswer, SegmentRequest, TranslationSession } from "./provider.js";

export interface LibreTranslateSettings extends Pick<RateLimits, "requestsPerMinute"> {
  /** Of the server: "http://127.0.0.1:5000". */
  readonly baseUrl: string;
  /** null: none is sent; most servers of one's own need none. */
  readonly apiKey: string | null;
  readonly concurrency: number;
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
}

const name = "libretranslate";

/** The server does not say which model it uses: the journal's key holds its address instead. */
export function libreTranslateProvider(settings: LibreTranslateSettings): LiveProvider {
  const { baseUrl, concurrency, maxCharacters, joinSentences } = settings;
  const url = new URL("translate", baseUrl.endsWith("/") ? baseUrl : `${baseUrl}/`).href;
  return {
    ...{ kind: "live", name, model: baseUrl, concurrency, maxCharacters, joinSentences },
    mostFailuresInTurn: Math.max(10, concurrency),
    open: async (pair, context) => new LibreTranslateSession(settings, url, pair, context),
  };
}

class LibreTranslateSession implements TranslationSession {
  readonly #settings: LibreTranslateSettings;
  readonly #url: string;
  readonly #pair: LanguagePair;
  readonly #context: RequestContext;
  readonly #limiter: RateLimiter;

  constructor(settings: LibreTranslateSettings, url: string, pair: LanguagePair, context: RequestContext) {
    this.#settings = settings;
    this.#url = url;
    this.#pair = pair;
    this.#context = context;
    this.#limiter = new RateLimiter({ requestsPerMinute: settings.requestsPerMinute, tokensPerMinute: null }, context.now);
  }

  translate(request: SegmentRequest): Promise<SegmentAnswer> {
    const hooks = { who: name, context: this.#context, hopeless, onPause: (milliseconds: number) => this.#limiter.pause(milliseconds) };
    return withRetries(() => this.#attempt(request), this.#settings.retry, hooks);
  }

  async #attempt({ text, idempotencyKey }: SegmentRequest): Promise<SegmentAnswer> {
    const { apiKey, timeoutMs } = this.#settings;
    const body = { q: text, ...this.#pair, format: "text", ...(apiKey !== null && { api_key: apiKey }) };
    const headers = { "idempotency-key": idempotencyKey };
    await this.#limiter.acquire(0, this.#context.stop);
    const answer = await withTimeout(
      (signal) => postJson({ url: this.#url, body, headers, signal, now: this.#context.now }),
      timeoutMs,
      this.#context.abort,
    );
    const translated = typeof answer === "object" && answer !== null && "translatedText" in answer ? answer.translatedText : undefined;
    if (typeof translated !== "string") throw new BadAnswer(`the answer has no "translatedText": ${excerpt(answer)}`);
    return { text: translated, usage: null };
  }

  async end(): Promise<void> {}

  abandon(): void {}
}

/** The server answers 400 for a pair it has no model for, which every request would meet. */
function hopeless({ status, message }: HttpFault): string | null {
  if (status === 401 || status === 403) return "Check the API key (--api-key-env) and --base-url.";
  if (status === 404) return "Check --base-url.";
  return status === 400 && /not supported|not available/i.test(message) ? "See /languages of the server for the codes it takes." : null;
}
