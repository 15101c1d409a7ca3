import { describe, expect, it } from "vitest";
import { ApiError } from "../../src/serve/api-error.js";
import { parseChatRequest, parseCompletionRequest } from "../../src/serve/parse-request.js";

const messages = [{ role: "user", content: "Hi" }];
const chat = (fields: object) => parseChatRequest({ model: "m", messages, ...fields });
const completion = (fields: object) => parseCompletionRequest({ model: "m", prompt: "Hi", ...fields });

function refusalOf(work: () => unknown): ApiError {
  try {
    work();
  } catch (cause) {
    if (cause instanceof ApiError) return cause;
    throw cause;
  }
  throw new Error("was not refused");
}

describe("chat requests", () => {
  it("have OpenAI's defaults", () => {
    expect(chat({})).toEqual({
      ...{ model: "m", messages, maxTokens: null, minTokens: 0, temperature: 1, topP: 1, topK: 0, seed: null, repetitionPenalty: 1 },
      ...{ noRepeatNgramSize: 0, stops: [], choices: 1, topLogprobs: null, isStream: false, includesUsage: false },
    });
  });

  it("take OpenAI's and vLLM's parameters", () => {
    expect(
      chat({
        ...{ max_completion_tokens: 5, temperature: 0.5, top_p: 0.5, seed: 7, n: 2, stop: "x", logprobs: true, top_logprobs: 3 },
        ...{ stream: true, stream_options: { include_usage: true } },
        ...{ top_k: -1, repetition_penalty: 1.1, min_tokens: 2, no_repeat_ngram_size: 6 },
      }),
    ).toMatchObject({
      ...{ maxTokens: 5, temperature: 0.5, topP: 0.5, seed: 7, choices: 2, stops: ["x"], topLogprobs: 3, isStream: true },
      ...{ includesUsage: true, topK: 0, repetitionPenalty: 1.1, minTokens: 2, noRepeatNgramSize: 6 },
    });
  });

  it.each([{ temperature: 0 }, { temperature: 1e-50 }, { top_p: 0 }, { top_p: 1e-50, top_k: 5 }])(
    "%j asks for the likeliest token",
    (fields) => {
      expect(chat(fields)).toMatchObject({ temperature: 0, topP: 1, topK: 0 });
    },
  );

  it("take what clients send as metadata, and what asks for nothing", () => {
    const nothing = {
      ...{ user: "u", store: false, metadata: { a: "b" }, service_tier: "auto", safety_identifier: "x", prompt_cache_key: "k" },
      ...{ frequency_penalty: 0, presence_penalty: 0, logit_bias: {}, tools: [], tool_choice: "none", parallel_tool_calls: true },
      ...{ response_format: { type: "text" }, modalities: ["text"], audio: null, max_tokens: null, stop: null, top_logprobs: null },
    };
    expect(chat(nothing)).toEqual(chat({}));
  });

  it("take parts of text, the developer as the system, and answers that are sent back whole", () => {
    const parts = [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ];
    const answer = { role: "assistant", content: "c", refusal: null, tool_calls: [], annotations: [] };
    expect(chat({ messages: [{ role: "developer", content: parts }, answer, { ...messages[0], name: "Ann" }] }).messages).toEqual([
      { role: "system", content: "a\nb" },
      { role: "assistant", content: "c" },
      { role: "user", content: "Hi", name: "Ann" },
    ]);
  });

  it.each<[object, string, string, RegExp]>([
    [{ tools: [{ type: "function" }] }, "tools", "unsupported_parameter", /tool use is not supported; leave it out, or at \[\]/],
    [{ tool_choice: "required" }, "tool_choice", "unsupported_parameter", /not supported/],
    [{ response_format: { type: "json_schema" } }, "response_format", "unsupported_parameter", /'response_format'.* not supported/],
    [{ frequency_penalty: 0.5 }, "frequency_penalty", "unsupported_parameter", /leave it out, or at 0/],
    [{ presence_penalty: -1 }, "presence_penalty", "unsupported_parameter", /not supported/],
    [{ logit_bias: { 5: 1 } }, "logit_bias", "unsupported_parameter", /not supported/],
    [{ store: true }, "store", "unsupported_parameter", /not supported/],
    [{ modalities: ["text", "audio"] }, "modalities", "unsupported_parameter", /not supported/],
    [{ temprature: 0 }, "temprature", "unknown_parameter", /Unknown parameter: 'temprature'. Did you mean 'temperature'\?/],
    [{ temperature: 3 }, "temperature", "invalid_value", /'temperature'/],
    [{ temperature: "0" }, "temperature", "invalid_value", /expected number/],
    [{ top_p: 2 }, "top_p", "invalid_value", /'top_p'/],
    [{ max_tokens: 0 }, "max_tokens", "invalid_value", /'max_tokens'/],
    [{ max_tokens: 1.5 }, "max_tokens", "invalid_value", /'max_tokens'/],
    [{ seed: 2 ** 60 }, "seed", "invalid_value", /'seed'/],
    [{ n: 0 }, "n", "invalid_value", /'n'/],
    [{ stop: ["a", "b", "c", "d", "e"] }, "stop", "invalid_value", /at most 4/],
    [{ stop: "" }, "stop[0]", "invalid_value", /not empty/],
    [{ stop: 3 }, "stop", "invalid_value", /a text or a list of texts/],
    [{ logprobs: true, top_logprobs: 21 }, "top_logprobs", "invalid_value", /'top_logprobs'/],
    [{ messages: [] }, "messages", "invalid_value", /'messages'/],
    [{ messages: "Hi" }, "messages", "invalid_value", /'messages'/],
    [{ messages: [{ role: "tool", content: "x" }] }, "messages[0].role", "invalid_value", /tools are not supported/],
    [{ messages: [{ role: "user", content: null }] }, "messages[0].content", "invalid_value", /a text, or a list of text parts/],
    [
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      "messages[0].content[0].type",
      "invalid_value",
      /images, sound and files are not supported/,
    ],
    [{ messages: [{ role: "user", content: "x", nam: "y" }] }, "messages[0].nam", "unknown_parameter", /Unknown parameter/],
  ])("%j is refused by name", (fields, param, code, message) => {
    const refusal = refusalOf(() => chat(fields));
    expect(refusal).toMatchObject({ status: 400, param, code, type: "invalid_request_error" });
    expect(refusal.message).toMatch(message);
  });

  it.each<[object, string]>([
    [{ top_logprobs: 2 }, "top_logprobs"],
    [{ stream_options: { include_usage: true } }, "stream_options"],
    [{ max_tokens: 3, max_completion_tokens: 4 }, "max_tokens"],
    [{ max_tokens: 3, min_tokens: 4 }, "min_tokens"],
  ])("%j contradict each other", (fields, param) => {
    expect(refusalOf(() => chat(fields))).toMatchObject({ status: 400, param });
  });

  it.each([null, [], "x", 3])("%j is no request", (body) => {
    expect(refusalOf(() => parseChatRequest(body)).message).toBe("The body is no JSON object.");
  });

  it("need a model and messages", () => {
    expect(refusalOf(() => parseChatRequest({ messages })).param).toBe("model");
    expect(refusalOf(() => parseChatRequest({ model: "m" })).param).toBe("messages");
  });
});

describe("completion requests", () => {
  it("have 16 tokens unless they say otherwise", () => {
    expect(completion({})).toMatchObject({ prompts: ["Hi"], maxTokens: 16, isEchoed: false, topLogprobs: null });
    expect(completion({ max_tokens: 3, logprobs: 0, best_of: 1 })).toMatchObject({ maxTokens: 3, topLogprobs: 0 });
  });

  it.each<[unknown, unknown]>([
    [
      ["a", "b"],
      ["a", "b"],
    ],
    [[1, 2], [[1, 2]]],
    [
      [[1], [2, 3]],
      [[1], [2, 3]],
    ],
  ])("take %j as prompts", (prompt, prompts) => {
    expect(completion({ prompt }).prompts).toEqual(prompts);
  });

  it.each<[object, string]>([
    [{ prompt: [] }, "prompt"],
    [{ prompt: [1.5] }, "prompt"],
    [{ prompt: ["a", 1] }, "prompt"],
    [{ prompt: null }, "prompt"],
    [{ prompt: Array.from({ length: 129 }, () => "a") }, "prompt"],
    [{ best_of: 2 }, "best_of"],
    [{ echo: true, logprobs: 0 }, "echo"],
    [{ suffix: "x" }, "suffix"],
    [{ logprobs: true }, "logprobs"],
    [{ messages: [] }, "messages"],
  ])("%j is refused by name", (fields, param) => {
    expect(refusalOf(() => completion(fields))).toMatchObject({ status: 400, param });
  });
});
