import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { defaultRetryPolicy } from "../../src/endpoint/retry.js";
import { libreTranslateProvider } from "../../src/translate/providers/libretranslate.js";
import type { TranslationSession } from "../../src/translate/providers/provider.js";
import { ask, testContext } from "./provider-context.js";

interface Reply {
  readonly status: number;
  readonly body: string;
}

/** A server under /sub that gives these replies in turn, then translations; what it was sent. */
async function libreTranslate(replies: readonly Reply[] = []): Promise<{ readonly url: string; readonly received: unknown[] }> {
  const received: unknown[] = [];
  const server = createServer((incoming, outgoing) => {
    let text = "";
    incoming.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    incoming.on("end", () => {
      const body = JSON.parse(text) as { readonly q: string; readonly target: string };
      received.push({ path: incoming.url, key: incoming.headers["idempotency-key"], ...body });
      const reply = replies[received.length - 1] ?? { status: 200, body: JSON.stringify({ translatedText: `${body.target}: ${body.q}` }) };
      outgoing.writeHead(reply.status, { "content-type": "application/json" }).end(reply.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/sub`, received };
}

async function open(baseUrl: string, apiKey: string | null = null): Promise<TranslationSession> {
  const retry = { ...defaultRetryPolicy, maxRetries: 2, firstDelayMs: 1 };
  const limits = { concurrency: 2, maxCharacters: 500, joinSentences: true, timeoutMs: 2_000, requestsPerMinute: null };
  return await libreTranslateProvider({ baseUrl, apiKey, retry, ...limits }).open({ source: "en", target: "fi" }, testContext());
}

describe("the libretranslate provider", () => {
  it("posts text, pair and key to /translate", async () => {
    const server = await libreTranslate();
    expect(await ask(await open(server.url, "secret"), "hello", "key-1")).toEqual({ text: "fi: hello", usage: null });
    expect(server.received).toEqual([
      { path: "/sub/translate", key: "key-1", q: "hello", source: "en", target: "fi", format: "text", api_key: "secret" },
    ]);
  });

  it("sends no key where none is set, and asks again after 500 and after an answer without a translation", async () => {
    const server = await libreTranslate([
      { status: 500, body: "oops" },
      { status: 200, body: "[]" },
      { status: 200, body: "<html>" },
    ]);
    expect((await ask(await open(server.url), "hello")).text).toBe("fi: hello");
    expect(server.received).toHaveLength(4);
    expect(server.received[0]).not.toHaveProperty("api_key");
  });

  it("ends the run for a pair that the server has no model for", async () => {
    const server = await libreTranslate([{ status: 400, body: JSON.stringify({ error: "fi is not supported" }) }]);
    await expect(ask(await open(server.url), "hello")).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/HTTP 400 \(fi is not supported\).*\/languages/),
    });
  });
});
