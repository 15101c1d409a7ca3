import { describe, expect, it } from "vitest";
import { RequestFailure } from "../../src/endpoint/request.js";
import { defaultRetryPolicy } from "../../src/endpoint/retry.js";
import { openAiBatchProvider } from "../../src/translate/providers/openai-batch.js";
import type { BatchOutcome, SegmentRequest } from "../../src/translate/providers/provider.js";
import { type BatchServer, startBatchServer, textOf } from "../endpoint/batch-server.js";
import { translated } from "../endpoint/chat-server.js";
import { type TestContext, testContext } from "./provider-context.js";

const requests: readonly SegmentRequest[] = ["one", "two", "three", "four", "five"].map((text) => ({
  text,
  idempotencyKey: `key-${text}`,
}));

function submit(
  { url }: BatchServer,
  {
    asked = requests,
    scope = "scope",
    context = testContext(),
  }: { asked?: readonly SegmentRequest[]; scope?: string; context?: TestContext } = {},
): Promise<AsyncIterable<BatchOutcome>> {
  const provider = openAiBatchProvider({
    ...{ model: "m", baseUrl: url, apiKey: "k", timeoutMs: 5_000, maxCharacters: 500, joinSentences: true, temperature: null },
    ...{ responseFormat: "json_object", pollMs: 5, batchSize: 2, retry: { ...defaultRetryPolicy, firstDelayMs: 1 } },
  });
  return provider.submit(scope, { source: "en", target: "fi" }, asked, context);
}

/** Texts by key; null for failures. */
async function outcomes(pending: AsyncIterable<BatchOutcome>): Promise<Record<string, string | null>> {
  const found: Record<string, string | null> = {};
  for await (const { idempotencyKey, outcome } of pending) found[idempotencyKey] = outcome instanceof RequestFailure ? null : outcome.text;
  return found;
}

const all = Object.fromEntries(requests.map(({ text, idempotencyKey }) => [idempotencyKey, translated(text, "x")]));

describe("the openai provider over the Batch API", () => {
  it("submits batches of the size limit with its keys as metadata, and collects the answers in any order", async () => {
    const server = await startBatchServer();
    const pending = await submit(server);
    expect(server.batches.map((batch) => server.rows(batch).length)).toEqual([1, 2, 2]);
    for (const { metadata } of server.batches)
      expect(metadata).toEqual({
        polypaca_scope: expect.stringMatching(/^[0-9a-f]{40}$/),
        polypaca_key: expect.stringMatching(/^[0-9a-f]{40}$/),
      });
    expect(new Set(server.batches.map(({ metadata }) => metadata.polypaca_key)).size).toBe(3);
    setTimeout(() => server.finish(), 20);
    expect(await outcomes(pending)).toEqual(all);
  });

  it("finds the batches of a killed run, under way or done, and submits only what none of them has", async () => {
    const server = await startBatchServer();
    await submit(server, { asked: requests.slice(0, 2) });
    server.finish();
    await submit(server, { asked: requests.slice(2, 4) });
    await submit(server, { asked: requests, scope: "another language" });
    expect(server.batches).toHaveLength(5);
    const context = testContext();
    const pending = await submit(server, { context });
    expect(server.batches).toHaveLength(6);
    expect(server.rows(server.batches[0]!).map(textOf)).toEqual(["five"]);
    expect(context.notes.join("\n")).toMatch(/2 answers found in earlier batches\n.*was submitted before and is in progress/);
    server.finish();
    expect(await outcomes(pending)).toEqual(all);
  });

  it("fails the segments that an expired batch has no answer to, and submits them again the next time", async () => {
    const server = await startBatchServer();
    const pending = await submit(server);
    server.finish("expired", (text) => text.startsWith("t"));
    expect(await outcomes(pending)).toEqual({ ...all, "key-one": null, "key-four": null, "key-five": null });
    const again = await submit(server);
    expect(
      server.batches
        .slice(0, 2)
        .flatMap((batch) => server.rows(batch).map(textOf))
        .sort(),
    ).toEqual(["five", "four", "one"]);
    server.finish();
    expect(await outcomes(again)).toEqual(all);
  });

  it("asks for nothing where nothing is missing", async () => {
    expect(await outcomes(await submit({ url: "http://127.0.0.1:9/v1" } as BatchServer, { asked: [] }))).toEqual({});
  });

  it("stops waiting when stopped; the batches go on", async () => {
    const server = await startBatchServer();
    const context = testContext();
    const pending = await submit(server, { context });
    setTimeout(() => context.controller.abort(), 20);
    await expect(outcomes(pending)).rejects.toMatchObject({ code: "CANCELLED" });
    expect(server.batches.every(({ status }) => status === "in_progress")).toBe(true);
  });
});
