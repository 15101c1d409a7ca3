import { describe, expect, it } from "vitest";
import { apiKeyFrom } from "../../src/endpoint/openai-client.js";
import { RequestFailure } from "../../src/endpoint/request.js";
import { defaultRetryPolicy } from "../../src/endpoint/retry.js";
import { PolypacaError } from "../../src/errors.js";
import { type OpenAiSettings, openAiProvider } from "../../src/translate/providers/openai.js";
import type { TranslationSession } from "../../src/translate/providers/provider.js";
import { type ChatServer, type Misbehaviour, startChatServer, translated } from "../endpoint/chat-server.js";
import { ask, type TestContext, testContext } from "./provider-context.js";

const pair = { source: "en", target: "fi" };

async function open(
  server: Pick<ChatServer, "url">,
  settings: Partial<OpenAiSettings> = {},
  context: TestContext = testContext(),
): Promise<TranslationSession> {
  const provider = openAiProvider({
    ...{ model: "m", baseUrl: server.url, apiKey: "secret", timeoutMs: 5_000, concurrency: 4, maxCharacters: 2_000, joinSentences: true },
    ...{ requestsPerMinute: null, tokensPerMinute: null, temperature: null, responseFormat: "json_object" },
    retry: { ...defaultRetryPolicy, firstDelayMs: 1, longestDelayMs: 5 },
    ...settings,
  });
  if (provider.kind !== "live") throw new Error("unreachable");
  return await provider.open(pair, context);
}

/** A server that misbehaves with the first `times` requests. */
function misbehavingFirst(times: number, misbehaviour: Misbehaviour): Promise<ChatServer> {
  return startChatServer({ honoursKeys: true, misbehave: ({ number }) => (number <= times ? misbehaviour : null) });
}

describe("the openai provider", () => {
  it("counts what answers cost that could not be used", async () => {
    const server = await misbehavingFirst(2, { kind: "refusal" });
    const session = await open(server);
    expect((await session.translate({ text: "text", idempotencyKey: "key" })).usage).toEqual({ inputTokens: 33, outputTokens: 21 });
  });

  it("sends model, key, languages and Idempotency-Key, and gives the translation and its usage", async () => {
    const server = await startChatServer();
    const session = await open(server, { temperature: 0.2 });
    expect(await ask(session, 'Say "hi" to\tall', "key-1")).toEqual({
      text: translated('Say "hi" to\tall', "fi"),
      usage: { inputTokens: 11, outputTokens: 7 },
    });
    expect(server.requests).toEqual([
      expect.objectContaining({ key: "key-1", authorization: "Bearer secret", text: 'Say "hi" to\tall', target: "fi" }),
    ]);
    expect(server.requests[0]!.body).toMatchObject({ model: "m", temperature: 0.2, response_format: { type: "json_object" } });
  });

  it.each(["json_schema", "none"] as const)("can ask with the response format %s", async (responseFormat) => {
    const server = await startChatServer();
    await ask(await open(server, { responseFormat }), "text");
    const sent = server.requests[0]!.body.response_format as { readonly type: string } | undefined;
    expect(sent?.type).toBe(responseFormat === "none" ? undefined : responseFormat);
    expect(server.requests[0]!.body).not.toHaveProperty("temperature");
  });

  it.each<Misbehaviour>([
    { kind: "status", status: 500 },
    { kind: "status", status: 408 },
    { kind: "status", status: 429, headers: { "retry-after-ms": "10" } },
    { kind: "cut" },
    { kind: "cut in the body" },
    { kind: "hang" },
    { kind: "stall in the body" },
  ])("asks again with the same key after $kind $status, and says so", async (misbehaviour) => {
    const server = await misbehavingFirst(2, misbehaviour);
    const context = testContext();
    const session = await open(server, { timeoutMs: 1_000 }, context);
    expect((await ask(session, "text", "key-1")).text).toBe(translated("text", "fi"));
    expect(server.requests.map(({ key }) => key)).toEqual(["key-1", "key-1", "key-1"]);
    expect(server.charged()).toBe(1);
    expect(context.notes).toEqual([expect.stringMatching(/^openai: .*asked again in .*1 of 8/), expect.stringContaining("2 of 8")]);
  });

  it("waits as long as Retry-After asks, with every request", async () => {
    const server = await misbehavingFirst(1, { kind: "status", status: 429, headers: { "retry-after": "1" } });
    const context = testContext();
    const session = await open(server, {}, context);
    const began = performance.now();
    const first = ask(session, "first");
    await server.received(1);
    while (context.notes.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await Promise.all([first, ask(session, "second")]);
    expect(performance.now() - began).toBeGreaterThanOrEqual(990);
    expect(context.notes[0]).toContain("HTTP 429 (status 429 on demand); asked again in 1.0 s");
    expect(server.requests.map(({ text }) => text).sort()).toEqual(["first", "first", "second"]);
  });

  it.each<[Misbehaviour["kind"], RegExp]>([
    ["not JSON", /not valid JSON/],
    ["no choices", /not a chat completion: .*all is well/],
    ["prose", /is not \{"translation": "…"\}/],
    ["refusal", /the model refused: .*can't assist/],
    ["refusal field", /the model refused/],
    ["refusal in the translation", /the model refused/],
    ["cut off", /cut off at the limit of tokens/],
    ["empty", /the translation is empty/],
  ])("asks again under another key after an answer that is %s, and fails the segment when it stays", async (kind, message) => {
    const passing = await misbehavingFirst(2, { kind } as Misbehaviour);
    expect((await ask(await open(passing), "text", "key-1")).text).toBe(translated("text", "fi"));
    expect(passing.requests.map(({ key }) => key)).toEqual(["key-1", "key-1-1", "key-1-2"]);

    const staying = await misbehavingFirst(99, { kind } as Misbehaviour);
    const failure = await ask(await open(staying), "text").catch((cause: unknown) => cause);
    expect(failure).toBeInstanceOf(RequestFailure);
    expect((failure as RequestFailure).message).toMatch(message);
    expect(staying.requests).toHaveLength(3);
  });

  it("does not take a source that reads like a refusal for one", async () => {
    const server = await startChatServer();
    const session = await open(server);
    expect((await ask(session, "I'm sorry, but I can't assist with that.")).text).toContain("I'm sorry");
  });

  it("fails the segment after the last retry, and counts what unusable answers cost", async () => {
    const broken = await misbehavingFirst(99, { kind: "status", status: 503 });
    const retry = { ...defaultRetryPolicy, maxRetries: 2, firstDelayMs: 1 };
    await expect(ask(await open(broken, { retry }), "text")).rejects.toThrow(/HTTP 503 .*\(also after 2 retries\)/);
    const refusing = await misbehavingFirst(99, { kind: "refusal" });
    await expect(ask(await open(refusing), "text")).rejects.toMatchObject({ usage: { inputTokens: 33, outputTokens: 21 } });
  });

  it("fails a segment at once where the server finds fault with the request", async () => {
    const server = await misbehavingFirst(99, { kind: "status", status: 400, error: { message: "flagged by the content policy" } });
    await expect(ask(await open(server), "text")).rejects.toThrow(/^HTTP 400 \(.*flagged by the content policy/);
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    [401, {}, /HTTP 401 .*--api-key-env/],
    [404, {}, /HTTP 404 .*--model/],
    [429, { code: "insufficient_quota", message: "no credit" }, /no credit.*has no credit left/],
  ])("ends the run at HTTP %s %o, which every request would meet", async (status, error, message) => {
    const server = await misbehavingFirst(99, { kind: "status", status, error });
    const failure = await ask(await open(server), "text").catch((cause: unknown) => cause);
    expect(failure).toBeInstanceOf(PolypacaError);
    expect(failure).toMatchObject({ code: "USAGE", message: expect.stringMatching(message) });
    expect(server.requests).toHaveLength(1);
  });

  it("says that nothing listens", async () => {
    const retry = { ...defaultRetryPolicy, maxRetries: 1, firstDelayMs: 1 };
    const session = await open({ url: "http://127.0.0.1:9/v1" }, { retry });
    await expect(ask(session, "text")).rejects.toThrow(/Connection error.*\(also after 1 retry\)|bad port/);
  });

  it("ends a wait between attempts, and a request under way, when aborted", async () => {
    const waiting = testContext();
    const slow = { ...defaultRetryPolicy, firstDelayMs: 60_000, longestDelayMs: 60_000 };
    const broken = await misbehavingFirst(1, { kind: "status", status: 500 });
    const first = ask(await open(broken, { retry: slow }, waiting), "text");
    await broken.received(1);
    while (waiting.notes.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    waiting.controller.abort();
    await expect(first).rejects.toMatchObject({ code: "CANCELLED" });

    const under = testContext();
    const hanging = await misbehavingFirst(1, { kind: "hang" });
    const second = ask(await open(hanging, {}, under), "text");
    await hanging.received(1);
    under.controller.abort();
    await expect(second).rejects.toMatchObject({ code: "CANCELLED" });
    expect(hanging.requests).toHaveLength(1);
  });
});

describe("the API key", () => {
  it("comes from the environment, and where it is missing the error says which variable to set", () => {
    expect(apiKeyFrom({ MY_KEY: " k \n" }, "MY_KEY")).toBe("k");
    expect(() => apiKeyFrom({ MY_KEY: " " }, "MY_KEY")).toThrow(/MY_KEY is not set.*any text for a server that asks for none/);
  });
});
