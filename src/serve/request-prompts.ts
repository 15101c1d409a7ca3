/** The model that a request names, and its prompts as ids. */
import { promptIds } from "../generate/prompt-ids.js";
import { ApiError, invalidRequest } from "./api-error.js";
import type { ChatRequest, CompletionRequest, DecodingRequest } from "./request-fields.js";
import type { ServedModel, ServedModels } from "./served-models.js";

/** @throws ApiError 404 with the names there are */
export function findModel(models: ServedModels["models"], name: string): ServedModel {
  const found = models.get(name);
  if (found) return found;
  const names = [...models.keys()].map((id) => `'${id}'`).join(", ");
  throw new ApiError(404, `The model '${name}' does not exist. There are: ${names}.`, { param: "model", code: "model_not_found" });
}

/** @throws ApiError 400 naming `messages` */
export function chatPromptIds({ messages }: ChatRequest, { prompt }: ServedModel, served: ServedModels): Int32Array {
  assertShortEnough(
    messages.reduce((sum, { content }) => sum + content.length, 0),
    served,
    "messages",
  );
  try {
    return prompt.encode(messages);
  } catch (cause) {
    const error = cause as { readonly code?: unknown; readonly message: string };
    if (error.code === "INVALID_ARGUMENT") throw invalidRequest(error.message, "messages", "invalid_value");
    throw cause;
  }
}

/** @throws ApiError 400 naming `prompt` */
export function completionPromptIds({ prompts }: CompletionRequest, served: ServedModels): Int32Array[] {
  const { tokenizer, vocabSize } = served;
  return prompts.map((prompt) => {
    if (typeof prompt === "string") {
      assertShortEnough(prompt.length, served, "prompt");
      return promptIds(prompt, tokenizer);
    }
    const wrong = prompt.find((id) => id < 0 || id >= vocabSize);
    if (wrong === undefined) return Int32Array.from(prompt);
    throw invalidRequest(`'prompt': ${wrong} is no token; the vocabulary has ${vocabSize}.`, "prompt", "invalid_value");
  });
}

/** A text that cannot fit, however well it is tokenised, is refused before that takes its time. */
function assertShortEnough(length: number, { engine, longestTokenBytes }: ServedModels, param: string): void {
  const { maxLength } = engine;
  if (length <= maxLength * longestTokenBytes) return;
  throw contextExceeded(`The prompt has ${length} characters, more than ${maxLength} tokens can stand for.`, param);
}

function contextExceeded(message: string, param: string): ApiError {
  return invalidRequest(message, param, "context_length_exceeded");
}

/** How long an answer may be. @throws ApiError 400 `context_length_exceeded` */
export function newTokensFor(prompt: Int32Array, { maxTokens }: DecodingRequest, maxLength: number, param: string): number {
  if (prompt.length === 0) throw invalidRequest(`'${param}' is empty: there is nothing to go on from.`, param, "invalid_value");
  const room = maxLength - prompt.length;
  if (room >= (maxTokens ?? 1)) return maxTokens ?? room;
  const wanted = maxTokens === null ? "and leaves no room for an answer" : `and ${maxTokens} are asked for`;
  throw contextExceeded(`The prompt has ${prompt.length} tokens ${wanted}; this server takes ${maxLength} for both.`, param);
}
