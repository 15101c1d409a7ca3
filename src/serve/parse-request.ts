/** Bodies of requests, checked: what the server cannot do is refused by the name of its field, never left out silently. */
import { z } from "zod";
import { nearestName } from "../settings/nearest-name.js";
import { type ApiError, invalidRequest } from "./api-error.js";
import { type ChatRequest, type CompletionRequest, decodingOf, mostTopLogprobs, sharedFields, unsupported } from "./request-fields.js";

/** Completions of OpenAI's stop after so many tokens unless told otherwise. */
const completionMaxTokens = 16;
const mostPrompts = 128;

const role = z.enum(
  ["system", "developer", "user", "assistant"],
  "expected system, developer, user or assistant (tools are not supported)",
);

/** Text, or a list of text parts, which are joined by line breaks. */
const content = z
  .unknown()
  .transform((value) => (typeof value === "string" ? [{ type: "text", text: value }] : value))
  .pipe(
    z
      .array(
        z.strictObject({ type: z.literal("text", "expected text: images, sound and files are not supported"), text: z.string() }),
        "expected a text, or a list of text parts",
      )
      .min(1),
  )
  .transform((parts) => parts.map(({ text }) => text).join("\n"));

const message = z.strictObject({
  role,
  content,
  name: z
    .string()
    .regex(/^[a-zA-Z0-9_-]{1,64}$/, "expected up to 64 letters, digits, _ and -")
    .nullish(),
  // What clients that send back a whole answer have in it.
  ...{ refusal: unsupported("a refusal is"), audio: unsupported("sound is"), annotations: unsupported("an annotation is", []) },
  ...{ tool_calls: unsupported("a tool call is", []), function_call: unsupported("a function call is") },
});

const chatSchema = z.strictObject({
  ...sharedFields,
  messages: z.array(message).min(1),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(mostTopLogprobs).nullish(),
  response_format: unsupported("a format of the answer is", { type: "text" }),
  ...{ tools: unsupported("tool use is", []), tool_choice: unsupported("tool use is", "none", "auto") },
  ...{ functions: unsupported("function calling is", []), function_call: unsupported("function calling is", "none", "auto") },
  parallel_tool_calls: z.boolean().nullish(), // of no tools
  ...{ modalities: unsupported("other output than text is", ["text"]), audio: unsupported("sound is") },
  ...{ prediction: unsupported("a predicted output is"), web_search_options: unsupported("web search is") },
  ...{ reasoning_effort: unsupported("reasoning is", "none"), verbosity: unsupported("verbosity is", "medium") },
});

const completionSchema = z.strictObject({
  ...sharedFields,
  prompt: z.unknown(),
  logprobs: z.int().min(0).max(mostTopLogprobs).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().min(1).nullish(),
  suffix: unsupported("a suffix is", ""),
});

/** @throws ApiError 400 naming the field */
export function parseChatRequest(body: unknown): ChatRequest {
  const fields = check(chatSchema, body);
  const { logprobs, top_logprobs: top, max_completion_tokens: newer, max_tokens: older } = fields;
  if (typeof top === "number" && logprobs !== true) throw invalidRequest("'top_logprobs' needs 'logprobs': true.", "top_logprobs");
  if (typeof newer === "number" && typeof older === "number" && newer !== older) {
    throw invalidRequest("'max_tokens' and 'max_completion_tokens' differ. Send one of them.", "max_tokens");
  }
  const messages = fields.messages.map(({ role, content, name }) => ({
    role: role === "developer" ? ("system" as const) : role,
    content,
    ...(typeof name === "string" && { name }),
  }));
  const topLogprobs = logprobs === true ? (top ?? 0) : null;
  return { ...consistent(decodingOf(fields, { maxTokens: newer ?? older ?? null, topLogprobs }), fields), messages };
}

/** @throws ApiError 400 naming the field */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  const fields = check(completionSchema, body);
  const { logprobs, echo, best_of: candidates, n } = fields;
  if (typeof candidates === "number" && candidates !== (n ?? 1)) {
    throw invalidRequest("'best_of' other than 'n' is not supported: answers are not ranked.", "best_of", "unsupported_parameter");
  }
  if (echo === true && typeof logprobs === "number") {
    const message = "'echo' with 'logprobs' is not supported: the prompt's tokens are not scored.";
    throw invalidRequest(message, "echo", "unsupported_parameter");
  }
  const request = decodingOf(fields, { maxTokens: fields.max_tokens ?? completionMaxTokens, topLogprobs: logprobs ?? null });
  return { ...consistent(request, fields), prompts: promptsOf(fields.prompt), isEchoed: echo === true };
}

function consistent<Request extends { readonly minTokens: number; readonly maxTokens: number | null }>(
  request: Request,
  fields: { readonly stream?: boolean | null | undefined; readonly stream_options?: unknown },
): Request {
  const { minTokens, maxTokens } = request;
  if (maxTokens !== null && minTokens > maxTokens) {
    throw invalidRequest(`'min_tokens' (${minTokens}) is more than the answer's longest, ${maxTokens} tokens.`, "min_tokens");
  }
  if ((fields.stream_options ?? null) !== null && fields.stream !== true) {
    throw invalidRequest("'stream_options' needs 'stream': true.", "stream_options");
  }
  return request;
}

/** A text, ids, or several of either. */
function promptsOf(prompt: unknown): (string | readonly number[])[] {
  const isIds = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length > 0 && value.every((id) => Number.isSafeInteger(id));
  const isPrompt = (value: unknown): value is string | number[] => typeof value === "string" || isIds(value);
  if (isPrompt(prompt)) return [prompt];
  if (!Array.isArray(prompt) || prompt.length === 0 || !prompt.every(isPrompt)) {
    throw invalidRequest("'prompt': expected a text, a list of token ids, or a list of either.", "prompt", "invalid_value");
  }
  if (prompt.length > mostPrompts) throw invalidRequest(`'prompt': ${prompt.length} prompts, at most ${mostPrompts} are taken.`, "prompt");
  return prompt;
}

function check<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw invalidRequest("The body is no JSON object.", null);
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw errorOf(result.error.issues[0]!, Object.keys((schema as unknown as { shape: object }).shape));
}

/** The first thing that is wrong; clients show one message. */
function errorOf(issue: z.core.$ZodIssue, names: readonly string[]): ApiError {
  const param = pathText(issue.path);
  if (issue.code === "unrecognized_keys") {
    const name = pathText([...issue.path, issue.keys[0]!]);
    const nearest = issue.path.length === 0 ? nearestName(name, names) : null;
    return invalidRequest(
      `Unknown parameter: '${name}'.${nearest === null ? "" : ` Did you mean '${nearest}'?`}`,
      name,
      "unknown_parameter",
    );
  }
  const isUnsupported = issue.code === "custom" && issue.params?.isUnsupported === true;
  return invalidRequest(`'${param}': ${issue.message}.`, param, isUnsupported ? "unsupported_parameter" : "invalid_value");
}

/** "messages[0].content[1].type". */
function pathText(path: readonly PropertyKey[]): string {
  return path.map((key, depth) => (typeof key === "number" ? `[${key}]` : `${depth > 0 ? "." : ""}${String(key)}`)).join("");
}
