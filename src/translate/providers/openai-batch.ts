/** OpenAI's Batch API as a provider. */
import { type BatchSettings, type BatchTask, submitBatches } from "../../endpoint/openai-batch.js";
import { openAiName } from "./openai.js";
import { type ChatOptions, chatBody, translationOf } from "./openai-chat.js";
import type { BatchProvider, SegmentAnswer } from "./provider.js";

export interface OpenAiBatchSettings extends BatchSettings, ChatOptions {
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
}

export function openAiBatchProvider(settings: OpenAiBatchSettings): BatchProvider {
  const { model, maxCharacters, joinSentences } = settings;
  return {
    ...{ kind: "batch", name: openAiName, model, maxCharacters, joinSentences },
    submit: async (scope, pair, requests, context) => {
      const texts = new Map(requests.map(({ idempotencyKey, text }) => [idempotencyKey, text]));
      const asked = requests.map(({ idempotencyKey, text }) => ({ idempotencyKey, body: () => chatBody(text, pair, settings) }));
      const task: BatchTask<SegmentAnswer> = { scope, read: (answer, key) => translationOf(answer, texts.get(key) ?? "") };
      return await submitBatches(asked, task, settings, context);
    },
  };
}
