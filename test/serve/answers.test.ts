/** What answers look like, through the official client, over an engine whose tokens are known. */
import type OpenAI from "openai";
import { describe, expect, it } from "vitest";
import { alpacaTemplates, renderPrompt } from "../../src/data/index.js";
import { type ScriptedServer, startScripted } from "./scripted-server.js";

/** A character is a token. */
const promptTokens = renderPrompt(alpacaTemplates.lora, { instruction: "Hi" }).length;
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Hi" }];

async function chunksOf<Chunk>(stream: AsyncIterable<Chunk>): Promise<Chunk[]> {
  const chunks: Chunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

function streamed(chunks: readonly OpenAI.ChatCompletionChunk[], index = 0): string {
  return chunks
    .flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
    .map(({ delta }) => delta.content ?? "")
    .join("");
}

function chat(server: ScriptedServer, fields: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) {
  return server.client.chat.completions.create({ model: "base", messages, ...fields });
}

function chatStream(server: ScriptedServer, fields: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}) {
  return server.client.chat.completions.create({ model: "base", messages, ...fields, stream: true }).then(chunksOf);
}

describe("a chat completion", () => {
  it("is the answer with its usage, the instruction in the study's template", async () => {
    const server = await startScripted(() => ["\nHello there. "]);
    const answer = await chat(server, { temperature: 0.5, seed: 7, max_tokens: 50 });
    expect(answer).toEqual({
      ...{ id: expect.stringMatching(/^chatcmpl-/), object: "chat.completion", created: 1_700_000_000, model: "base" },
      system_fingerprint: "fp_base",
      choices: [
        { index: 0, message: { role: "assistant", content: "Hello there.", refusal: null }, logprobs: null, finish_reason: "stop" },
      ],
      usage: { prompt_tokens: promptTokens, completion_tokens: 15, total_tokens: promptTokens + 15 },
    });
    const [{ prompt, options }] = server.engine.asked as [{ prompt: string; options: object }];
    expect(prompt).toMatch(/### Instruction:\nHi\n\n### Response:\n$/);
    expect(options).toMatchObject({ temperature: 0.5, seed: 7, maxNewTokens: 50, adapter: null, eosTokenId: 2, topLogprobs: 0 });
  });

  it("streams the same text, the role first and [DONE] last", async () => {
    const server = await startScripted(() => ["\nHello there. "]);
    const chunks = await chatStream(server);
    expect(chunks[0]!.choices[0]!.delta).toEqual({ role: "assistant", content: "" });
    expect(chunks.at(-1)!.choices[0]).toMatchObject({ delta: {}, finish_reason: "stop" });
    expect(streamed(chunks)).toBe("Hello there.");
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks.every(({ object, usage }) => object === "chat.completion.chunk" && usage === undefined)).toBe(true);
    const body = JSON.stringify({ model: "base", messages, stream: true });
    const raw = await fetch(`${server.url}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body });
    expect(raw.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(await raw.text()).toMatch(/\n\ndata: \[DONE\]\n\n$/);
  });

  it("ends its stream with the usage where that is asked for", async () => {
    const server = await startScripted(() => ["abc"]);
    const chunks = await chatStream(server, { stream_options: { include_usage: true } });
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: promptTokens, completion_tokens: 4, total_tokens: promptTokens + 4 },
    });
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
  });

  it("ends at a following heading, as generate does, and leaves the batch there", async () => {
    const server = await startScripted(() => ["An answer.\n", "\n### Instruction:\nNext"]);
    expect((await chat(server)).choices[0]).toMatchObject({ message: { content: "An answer." }, finish_reason: "stop" });
    expect(server.engine.cancelled()).toBe(1);
    expect(server.engine.running).toBe(0);
  });

  it("ends before a stop string that is spread over tokens, and never shows a part of it", async () => {
    const server = await startScripted(() => ["one STO two STOP three"]);
    const chunks = await chatStream(server, { stop: ["STOP", "never"] });
    expect(streamed(chunks)).toBe("one STO two");
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe("stop");
    expect((await chat(server, { stop: "two" })).choices[0]!.message.content).toBe("one STO");
  });

  it("gives the beginning of a stop string that does not go on", async () => {
    const server = await startScripted(() => ["all ST"]);
    expect(streamed(await chatStream(server, { stop: "STOP" }))).toBe("all ST");
  });

  it("says that it was cut off by max_tokens", async () => {
    const server = await startScripted(() => ["abcdef"]);
    const { choices, usage } = await chat(server, { max_completion_tokens: 3 });
    expect(choices[0]).toMatchObject({ message: { content: "abc" }, finish_reason: "length" });
    expect(usage!.completion_tokens).toBe(3);
  });

  it("goes on to the end of the context where no limit is given", async () => {
    const server = await startScripted(() => ["a".repeat(300)], { maxLength: 150 });
    const { choices, usage } = await chat(server);
    expect(choices[0]!.finish_reason).toBe("length");
    expect(usage!.total_tokens).toBe(150);
  });

  it("gives n answers with seeds of their own, also streamed", async () => {
    const server = await startScripted((_, { seed }) => [`seed ${seed}`]);
    const { choices, usage } = await chat(server, { n: 3, seed: 10 });
    expect(choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, "seed 10"],
      [1, "seed 11"],
      [2, "seed 12"],
    ]);
    expect(usage).toEqual({ prompt_tokens: promptTokens, completion_tokens: 24, total_tokens: promptTokens + 24 });
    const chunks = await chatStream(server, { n: 2, seed: 5 });
    expect([streamed(chunks, 0), streamed(chunks, 1)]).toEqual(["seed 5", "seed 6"]);
  });

  it("draws a seed where none is given", async () => {
    const server = await startScripted(() => ["a"]);
    await chat(server);
    expect(server.engine.asked[0]!.options.seed).toBe(2 ** 31);
  });

  it("has the log-probabilities of its tokens, EOS left out, whole and streamed", async () => {
    const server = await startScripted(() => ["hé."]);
    const { choices } = await chat(server, { logprobs: true, top_logprobs: 2, stop: "." });
    const token = (text: string, next: string) => ({
      ...{ token: text, logprob: -1, bytes: [...Buffer.from(text)] },
      top_logprobs: [
        { token: text, logprob: -1, bytes: [...Buffer.from(text)] },
        { token: next, logprob: -2, bytes: [...Buffer.from(next)] },
      ],
    });
    expect(choices[0]!.logprobs).toEqual({ content: [token("h", "i"), token("é", "ê")], refusal: null });
    const chunks = await chatStream(server, { logprobs: true });
    const tokens = chunks.flatMap(({ choices }) => choices[0]!.logprobs?.content ?? []);
    expect(tokens.map(({ token, top_logprobs }) => [token, top_logprobs])).toEqual([
      ["h", []],
      ["é", []],
      [".", []],
    ]);
  });

  it("is given by the adapter that is named", async () => {
    const server = await startScripted((_, { adapter }) => [`I am ${adapter}`]);
    const answer = await chat(server, { model: "tuned" });
    expect(answer).toMatchObject({ model: "tuned", system_fingerprint: "fp_tuned" });
    expect(answer.choices[0]!.message.content).toBe("I am tuned");
  });

  it("may be empty", async () => {
    const server = await startScripted(() => []);
    expect((await chat(server)).choices[0]).toMatchObject({ message: { content: "" }, finish_reason: "stop" });
    expect(streamed(await chatStream(server))).toBe("");
  });
});

describe("a completion", () => {
  const complete = (server: ScriptedServer, fields: Partial<OpenAI.CompletionCreateParamsNonStreaming> = {}) =>
    server.client.completions.create({ model: "base", prompt: "Once", ...fields });

  it("goes on from the prompt as it is, and is not trimmed", async () => {
    const server = await startScripted(() => [" upon\n### a "]);
    expect(await complete(server)).toMatchObject({
      ...{ id: expect.stringMatching(/^cmpl-/), object: "text_completion", model: "base", system_fingerprint: "fp_base" },
      choices: [{ index: 0, text: " upon\n### a ", logprobs: null, finish_reason: "stop" }],
      usage: { prompt_tokens: 4, completion_tokens: 13, total_tokens: 17 },
    });
    expect(server.engine.asked[0]).toMatchObject({ prompt: "Once", options: { maxNewTokens: 16 } });
  });

  it("answers several prompts, n times each, in order", async () => {
    const server = await startScripted((prompt, { seed }) => [`${prompt}${seed}`]);
    const { choices, usage } = await complete(server, { prompt: ["a", "bb"], n: 2, seed: 1 });
    expect(choices.map(({ index, text }) => [index, text])).toEqual([
      [0, "a1"],
      [1, "a2"],
      [2, "bb1"],
      [3, "bb2"],
    ]);
    expect(usage!.prompt_tokens).toBe(3);
  });

  it("takes ids as they are, and refuses those that are none", async () => {
    const server = await startScripted((prompt) => [prompt]);
    expect((await complete(server, { prompt: [107, 108] })).choices[0]!.text).toBe("ab");
    await expect(complete(server, { prompt: [[107], [-3]] })).rejects.toMatchObject({ status: 400, param: "prompt" });
  });

  it("begins with the prompt where it is echoed", async () => {
    const server = await startScripted(() => ["!"]);
    expect((await complete(server, { echo: true })).choices[0]!.text).toBe("Once!");
    const chunks = await server.client.completions
      .create({ model: "base", prompt: [107], echo: true, stream: true })
      .then((stream) => chunksOf(stream));
    expect(chunks.map(({ choices }) => choices[0]!.text).join("")).toBe("a!");
  });

  it("has log-probabilities with places in the text", async () => {
    const server = await startScripted(() => ["a😀b"]);
    const { choices } = await complete(server, { logprobs: 1, stop: "b" });
    expect(choices[0]!.logprobs).toEqual({
      tokens: ["a", "😀"],
      token_logprobs: [-1, -1],
      top_logprobs: [{ a: -1 }, { "😀": -1 }],
      text_offset: [0, 1],
    });
  });
});

describe("the model list", () => {
  it("has the base and the adapters, each also alone", async () => {
    const server = await startScripted(() => []);
    const { data } = await server.client.models.list();
    const facts = { object: "model", created: 1_700_000_000, owned_by: "polypaca", max_model_len: 4096 };
    expect(data).toEqual([
      { id: "base", parent: null, ...facts },
      { id: "tuned", parent: "base", ...facts },
    ]);
    expect(await server.client.models.retrieve("tuned")).toEqual(data[1]);
    await expect(server.client.models.retrieve("other")).rejects.toMatchObject({
      ...{ status: 404, code: "model_not_found", message: expect.stringContaining("'base', 'tuned'") },
    });
  });
});
