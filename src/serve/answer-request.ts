/** A checked request with its prompts to its response: places in the queue, sequences, and the answers whole or as a stream. */
import type { ServerResponse } from "node:http";
import type { DecodedToken, SequenceOptions } from "../generate/continuous-batch.js";
import type { Admission } from "./admission.js";
import { type AnswerEnd, answerSequence, type SequencePlan } from "./answer-sequence.js";
import type { AnswerPart } from "./answer-text.js";
import { EventStream } from "./event-stream.js";
import type { DecodingRequest } from "./request-fields.js";
import { newTokensFor } from "./request-prompts.js";
import type { AnswerToken, FinishedChoice, ResponseFormat, Usage } from "./response-format.js";
import { sendJson } from "./send-json.js";
import type { ServedModel, ServedModels } from "./served-models.js";
import type { ServerMetrics } from "./server-metrics.js";

export interface AnswerContext {
  readonly served: ServedModels;
  readonly admission: Admission;
  readonly metrics: ServerMetrics;
  readonly now: () => number;
  readonly random: () => number;
  readonly stallTimeoutMs: number;
  /** Ends when nobody waits for the answer, its reason being what is thrown. */
  readonly signal: AbortSignal;
}

/** The prompts of a request, and what its answers look like. */
export interface AnswerPlan {
  readonly request: DecodingRequest;
  readonly model: ServedModel;
  readonly prompts: readonly Int32Array[];
  /** The field that prompts come from, for errors. */
  readonly promptParam: string;
  readonly format: ResponseFormat;
  /** Whether the answers end and are trimmed as the chat prompt says; else they are what the model gives. */
  readonly isChat: boolean;
}

interface Choice {
  readonly index: number;
  readonly plan: SequencePlan;
}

/** Answers, and takes care that every sequence is left, whatever happens. */
export async function answerRequest(plan: AnswerPlan, context: AnswerContext, response: ServerResponse): Promise<void> {
  const choices = choicesOf(plan, context);
  context.admission.enter(choices.length);
  const one = new AbortController(); // one choice that fails ends the others
  const signal = AbortSignal.any([context.signal, one.signal]);
  const work: Work = { plan, choices, context: { ...context, signal }, arrived: context.now() };
  try {
    if (plan.request.isStream) await answerAsStream(work, response);
    else await answerWhole(work, response);
  } catch (cause) {
    one.abort(cause);
    throw cause;
  }
}

interface Work {
  readonly plan: AnswerPlan;
  readonly choices: readonly Choice[];
  readonly context: AnswerContext;
  /** Milliseconds of the context's clock. */
  readonly arrived: number;
}

function choicesOf({ request, model, prompts, promptParam, isChat }: AnswerPlan, { served, random }: AnswerContext): Choice[] {
  const { engine, tokenizer } = served;
  const seed = request.seed ?? Math.floor(random() * 2 ** 32);
  const options: Omit<SequenceOptions, "maxNewTokens" | "seed"> = {
    ...{ temperature: request.temperature, topK: request.topK, topP: request.topP, repetitionPenalty: request.repetitionPenalty },
    ...{ noRepeatNgramSize: request.noRepeatNgramSize, minNewTokens: request.minTokens, topLogprobs: request.topLogprobs ?? 0 },
    ...{ eosTokenId: tokenizer.eosTokenId ?? -1, adapter: model.adapter },
  };
  const { form, stopTokenIds } = isChat ? model.prompt : { form: { stops: [], isTrimmed: false }, stopTokenIds: new Set<number>() };
  const ownForm = { ...form, stops: [...form.stops, ...request.stops] };
  return prompts.flatMap((prompt, p) => {
    const maxNewTokens = newTokensFor(prompt, request, engine.maxLength, promptParam);
    return Array.from({ length: request.choices }, (_, c) => ({
      index: p * request.choices + c,
      plan: { prompt, options: { ...options, maxNewTokens, seed: seed + c }, form: ownForm, stopTokenIds },
    }));
  });
}

function sequenceOf({ plan }: Choice, { context, arrived }: Work): AsyncGenerator<AnswerPart<DecodedToken>, AnswerEnd, undefined> {
  const { served, admission, metrics, now, signal } = context;
  metrics.promptTokens.add(plan.prompt.length);
  let last: number | null = null;
  const onToken = (): void => {
    const at = now();
    if (last === null) metrics.secondsToFirstToken.observe((at - arrived) / 1000);
    else metrics.secondsPerToken.observe((at - last) / 1000);
    last = at;
    metrics.generatedTokens.add(1);
  };
  const onLeft = (isComplete: boolean): void => {
    admission.leave();
    if (!isComplete) metrics.cancelledSequences.add(1);
  };
  return answerSequence(plan, { engine: served.engine, tokenizer: served.tokenizer, signal, onToken, onLeft });
}

async function answerWhole(work: Work, response: ServerResponse): Promise<void> {
  const { plan, choices } = work;
  let completionTokens = 0;
  const finished = await Promise.all(
    choices.map(async (choice): Promise<FinishedChoice> => {
      const sequence = sequenceOf(choice, work);
      let text = "";
      const tokens: AnswerToken[] = [];
      for (;;) {
        const step = await sequence.next();
        if (step.done) {
          completionTokens += step.value.tokens;
          return { index: choice.index, text, tokens, finishReason: step.value.finishReason };
        }
        text += step.value.text;
        tokens.push(...step.value.tokens);
      }
    }),
  );
  sendJson(response, plan.format.whole(finished, usageOf(plan, completionTokens)));
}

async function answerAsStream(work: Work, response: ServerResponse): Promise<void> {
  const { plan, choices, context } = work;
  const { format, request } = plan;
  const stream = new EventStream(response, { signal: context.signal, stallMs: context.stallTimeoutMs });
  const send = (chunk: object): Promise<void> => stream.send(request.includesUsage ? { ...chunk, usage: null } : chunk);
  const hasTokens = request.topLogprobs !== null;
  const counts = await Promise.all(
    choices.map(async (choice): Promise<number> => {
      const sequence = sequenceOf(choice, work);
      try {
        let isOpen = false;
        for (;;) {
          const step = await sequence.next();
          const opening = isOpen ? null : format.opening(choice.index); // with the first token, so that earlier errors have their status
          isOpen = true;
          if (opening !== null) await send(opening);
          if (step.done) {
            await send(format.closing(choice.index, step.value.finishReason));
            return step.value.tokens;
          }
          if (step.value.text !== "" || (hasTokens && step.value.tokens.length > 0)) await send(format.part(choice.index, step.value));
        }
      } finally {
        await sequence.return({ finishReason: "stop", tokens: 0 }); // where sending failed
      }
    }),
  );
  const completionTokens = counts.reduce((sum, count) => sum + count, 0);
  if (request.includesUsage) await stream.send(format.usage(usageOf(plan, completionTokens)));
  await stream.end();
}

function usageOf({ prompts }: AnswerPlan, completionTokens: number): Usage {
  const promptTokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  return { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens };
}
