/** Any endpoint that speaks OpenAI's chat protocol. */
import { ChatEndpoint, hopelessReason, keyOfTurn, type OpenAiEndpoint } from "../../endpoint/openai-client.js";
import type { RateLimits } from "../../endpoint/rate-limit.js";
import { addUsage, type RequestContext, type TokenUsage } from "../../endpoint/request.js";
import { withRetries } from "../../endpoint/retry.js";
import { type ChatOptions, type ChatTranslation, chatBody, translationOf } from "./openai-chat.js";
import type { LanguagePair, LiveProvider, SegmentAnswer, SegmentRequest, TranslationSession } from "./provider.js";

export interface OpenAiSettings extends OpenAiEndpoint, ChatOptions, RateLimits {
  /** Requests at a time. */
  readonly concurrency: number;
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
}

export const openAiName = "openai";

export function openAiProvider(settings: OpenAiSettings): LiveProvider {
  const { model, concurrency, maxCharacters, joinSentences } = settings;
  let shared: Promise<ChatEndpoint> | null = null;
  return {
    ...{ kind: "live", name: openAiName, model, concurrency, maxCharacters, joinSentences },
    mostFailuresInTurn: Math.max(10, concurrency),
    open: async (pair, context) => {
      // One limiter for all languages: the limits are the account's.
      shared ??= ChatEndpoint.open(settings, context.now);
      return new OpenAiSession(settings, pair, context, await shared);
    },
  };
}

class OpenAiSession implements TranslationSession {
  readonly #settings: OpenAiSettings;
  readonly #pair: LanguagePair;
  readonly #context: RequestContext;
  readonly #endpoint: ChatEndpoint;

  constructor(settings: OpenAiSettings, pair: LanguagePair, context: RequestContext, endpoint: ChatEndpoint) {
    this.#settings = settings;
    this.#pair = pair;
    this.#context = context;
    this.#endpoint = endpoint;
  }

  async translate({ text, idempotencyKey }: SegmentRequest): Promise<SegmentAnswer> {
    let lost: TokenUsage | null = null;
    const hooks = {
      ...{ who: openAiName, context: this.#context, hopeless: hopelessReason },
      onPause: (milliseconds: number) => this.#endpoint.pause(milliseconds),
      onBadAnswer: (usage: TokenUsage | null) => {
        lost = addUsage(lost, usage);
      },
    };
    const attempt = (badAnswers: number) => this.#attempt(text, keyOfTurn(idempotencyKey, badAnswers));
    const answer = await withRetries(attempt, this.#settings.retry, hooks);
    return { ...answer, usage: addUsage(lost, answer.usage) };
  }

  async #attempt(text: string, idempotencyKey: string): Promise<ChatTranslation> {
    const body = chatBody(text, this.#pair, this.#settings);
    return translationOf(await this.#endpoint.complete(body, idempotencyKey, estimatedTokens(text), this.#context), text);
  }

  async end(): Promise<void> {}

  abandon(): void {}
}

/** The instructions, and the text twice; some 3 characters to the token, more in English and fewer elsewhere. */
function estimatedTokens(text: string): number {
  return 150 + Math.ceil((2 * text.length) / 3);
}
