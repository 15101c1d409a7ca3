/** One question to the judge, over any endpoint that speaks OpenAI's chat protocol. */
import { type ChatAnswer, excerpt, type ResponseFormat, responseFormatField, responseFormats } from "../../endpoint/chat-completion.js";
import { type ChatBody, ChatEndpoint, hopelessReason, keyOfTurn, type OpenAiEndpoint } from "../../endpoint/openai-client.js";
import type { RateLimits } from "../../endpoint/rate-limit.js";
import { addUsage, type RequestContext, RequestFailure, type TokenUsage } from "../../endpoint/request.js";
import { BadAnswer, HttpFault, withRetries } from "../../endpoint/retry.js";
import { ratingScale } from "../read-judgements.js";
import type { JudgeAnswer } from "./journal.js";
import type { JudgeMessages } from "./judge-prompt.js";
import { parseAnswer } from "./parse-answer.js";

export interface JudgeEndpointSettings extends OpenAiEndpoint, RateLimits {
  readonly model: string;
  /** `auto`: from json_schema down to none, to what the server takes. */
  readonly responseFormat: ResponseFormat | "auto";
  /** null: not sent. */
  readonly temperature: number | null;
}

/** What a question came to. */
export interface JudgeOutcome {
  readonly answer: JudgeAnswer;
  /** Of all answers, unusable ones included. */
  readonly usage: TokenUsage | null;
  /** Why there is no rating; null: there is one. */
  readonly reason: string | null;
}

/** An answer without a rating. */
export class UnratedAnswer extends BadAnswer {
  readonly raw: string;

  constructor(reason: string, raw: string, usage: TokenUsage | null) {
    super(reason, usage);
    this.raw = raw;
  }
}

/** From what a server is asked first to what any takes. */
const autoFormats: readonly ResponseFormat[] = ["json_schema", "json_object", "none"];

/** Of the answer, in the order in which it is to be written: the explanation before the rating that it leads to. */
const answerProperties = {
  explanation: { type: "string" },
  rating: { type: "integer", enum: Array.from({ length: ratingScale.max - ratingScale.min + 1 }, (_, i) => ratingScale.min + i) },
};

export class Judge {
  readonly #settings: JudgeEndpointSettings;
  readonly #context: RequestContext;
  readonly #endpoint: ChatEndpoint;
  readonly #formats: readonly ResponseFormat[];
  /** Index into the formats: what the server is known not to take is behind. */
  #format = 0;

  private constructor(settings: JudgeEndpointSettings, context: RequestContext, endpoint: ChatEndpoint) {
    this.#settings = settings;
    this.#context = context;
    this.#endpoint = endpoint;
    this.#formats = settings.responseFormat === "auto" ? autoFormats : [settings.responseFormat];
  }

  static async open(settings: JudgeEndpointSettings, context: RequestContext): Promise<Judge> {
    return new Judge(settings, context, await ChatEndpoint.open(settings, context.now));
  }

  /**
   * Asks until an answer has a rating, or too many have none: then the last one is given, with `rating` null.
   *
   * @throws RequestFailure where no answer came; PolypacaError `CANCELLED` when stopped, `USAGE` where no request can succeed
   */
  async ask(messages: JudgeMessages, idempotencyKey: string): Promise<JudgeOutcome> {
    const hooks = {
      ...{ who: this.#settings.model, context: this.#context, hopeless: hopelessReason },
      onPause: (milliseconds: number) => this.#endpoint.pause(milliseconds),
    };
    let usage: TokenUsage | null = null;
    const attempt = async (badAnswers: number): Promise<JudgeAnswer> => {
      const answer = await this.#complete(messages, keyOfTurn(idempotencyKey, badAnswers));
      usage = addUsage(usage, answer.usage);
      return ratedAnswer(answer);
    };
    try {
      const answer = await withRetries(attempt, this.#settings.retry, hooks);
      return { answer, usage, reason: null };
    } catch (failure) {
      if (!(failure instanceof RequestFailure && failure.cause instanceof UnratedAnswer)) throw failure;
      return unratedOutcome(failure.cause, usage, failure.message);
    }
  }

  /** Where the server does not take the form of answer, all requests from then on use the next one. */
  async #complete(messages: JudgeMessages, idempotencyKey: string): Promise<ChatAnswer> {
    for (;;) {
      const format = this.#format;
      try {
        return await this.#endpoint.complete(
          judgeBody(messages, this.#settings, this.#formats[format]!),
          // A service that honours keys may hold against one that it came with another body before.
          format === 0 ? idempotencyKey : `${idempotencyKey}-${this.#formats[format]}`,
          estimatedTokens(messages),
          this.#context,
        );
      } catch (cause) {
        if (!isFormatRefused(cause) || format + 1 >= this.#formats.length) throw cause;
        if (this.#format !== format) continue; // another request has met it too
        this.#format = format + 1;
        const next = this.#formats[this.#format]!;
        const instead = next === "none" ? "none is sent from now on" : `${next} is sent from now on`;
        this.#context.note(`${this.#settings.model}: the server does not take response_format ${this.#formats[format]}; ${instead}`);
      }
    }
  }
}

/** The request. */
export function judgeBody(
  { system, user }: JudgeMessages,
  { model, temperature }: Pick<JudgeEndpointSettings, "model" | "temperature">,
  format: ResponseFormat,
): ChatBody {
  return {
    model,
    messages: [...(system === null ? [] : [{ role: "system" as const, content: system }]), { role: "user", content: user }],
    ...(temperature !== null && { temperature }),
    ...responseFormatField(format, "judgement", answerProperties),
  };
}

/** What is recorded where no answer had a rating: the last one's words. */
export function unratedOutcome({ raw }: UnratedAnswer, usage: TokenUsage | null, reason: string): JudgeOutcome {
  return { answer: { rating: null, explanation: null, raw }, usage, reason };
}

/** @throws UnratedAnswer */
export function ratedAnswer({ content, refusal, isWithheld, isCutOff, usage }: ChatAnswer): JudgeAnswer {
  if (refusal !== null) throw new UnratedAnswer(`the judge refused: ${excerpt(refusal)}`, refusal, usage);
  if (isWithheld) throw new UnratedAnswer("the answer was withheld by the service's content filter", content, usage);
  if (isCutOff) throw new UnratedAnswer(`the answer was cut off at the limit of tokens: ${excerpt(content)}`, content, usage);
  const parsed = parseAnswer(content);
  if (parsed.kind === "unparsable") throw new UnratedAnswer(parsed.reason, content, usage);
  return { rating: parsed.rating, explanation: parsed.explanation, raw: content };
}

/** Servers say so in many words; what they have in common is the name of the field or of what is behind it. */
function isFormatRefused(cause: unknown): boolean {
  if (!(cause instanceof HttpFault) || ![400, 415, 422, 501].includes(cause.status)) return false;
  return new RegExp(`response.?format|${responseFormats.slice(0, 2).join("|")}|structured|guided|grammar`, "i").test(cause.message);
}

/** The messages at some 3 characters to the token, and an answer of two sentences. */
function estimatedTokens({ system, user }: JudgeMessages): number {
  return 120 + Math.ceil(((system?.length ?? 0) + user.length) / 3);
}
