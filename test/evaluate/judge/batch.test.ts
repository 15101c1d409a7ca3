import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { judge } from "../../../src/evaluate/judge/judge.js";
import type { JudgeSettings } from "../../../src/evaluate/judge/settings.js";
import { temporaryFolder } from "../../data/data-folder.js";
import { type BatchServer, startBatchServer } from "../../endpoint/batch-server.js";
import type { Task } from "../../endpoint/chat-server.js";
import { judgingTask, ratingOf, readOutput, responseRows, settingsFor, testEnvironment, writeRows } from "./judging.js";

const rows = responseRows(6);
const hit = rows[3]!.response;
let out: string;
let settings: (server: BatchServer, more?: Partial<JudgeSettings>) => JudgeSettings;

beforeEach(async () => {
  const folder = await temporaryFolder();
  out = join(folder, "judgements.jsonl");
  settings = (server, more = {}) => settingsFor(server, writeRows(folder, rows), out, { batch: true, ...more });
});

const environment = (signal?: AbortSignal) => ({ ...testEnvironment(signal), batchPollMs: 2 });

/** Answers without a rating for one response, the first `times` times. */
function unratedAtFirst(times: number): Task {
  let count = 0;
  return { ...judgingTask, answer: (text, target) => (text === hit && count++ < times ? "Hm." : judgingTask.answer(text, target)) };
}

/** Ends each batch when it comes. */
async function finishEach(server: BatchServer, count: number): Promise<void> {
  for (let batch = 1; batch <= count; batch++) {
    await server.submitted(batch);
    server.finish();
  }
}

describe("judge over the Batch API", () => {
  it("has all pairs judged in one batch, and nothing again afterwards", async () => {
    const server = await startBatchServer({ task: judgingTask });
    const running = judge(settings(server), environment());
    await finishEach(server, 1);
    expect(await running).toMatchObject({ judged: 6, unparsable: 0, failed: 0, usage: { answers: 6, inputTokens: 18, outputTokens: 12 } });
    expect(readOutput(out).map(({ rating }) => rating)).toEqual(rows.map(({ response }) => ratingOf(response)));
    expect(await judge(settings(server), environment())).toMatchObject({ judged: 0, reused: 6 });
    expect(server.batches).toHaveLength(1);
  });

  it("asks again, under another key, for what has no rating, and records it as such after the third time", async () => {
    const passing = await startBatchServer({ task: unratedAtFirst(2) });
    const first = judge(settings(passing), environment());
    await finishEach(passing, 3);
    expect(await first).toMatchObject({ judged: 6, unparsable: 0, usage: { inputTokens: 24 } });
    expect(readOutput(out)[3]!.rating).toBe(ratingOf(hit));
    const keys = passing.batches.map((batch) => passing.rows(batch).map(({ custom_id }) => custom_id));
    expect(keys.map(({ length }) => length)).toEqual([1, 1, 6]);
    expect(new Set(keys.flat()).size).toBe(8);

    const staying = await startBatchServer({ task: unratedAtFirst(99) });
    const second = judge(settings(staying, { model: "n" }), environment());
    await finishEach(staying, 3);
    expect(await second).toMatchObject({ judged: 6, unparsable: 1, failed: 0 });
    expect(readOutput(out)[3]).toMatchObject({ rating: null, raw: "Hm." });
  });

  it("finds the batch of a run that was stopped, and records what it did not answer as failed", async () => {
    const server = await startBatchServer({ task: judgingTask });
    const controller = new AbortController();
    const stopped = judge(settings(server), environment(controller.signal));
    await server.submitted(1);
    controller.abort();
    await expect(stopped).rejects.toMatchObject({ code: "CANCELLED" });
    expect(existsSync(out)).toBe(false);
    server.finish("expired", (text) => text !== hit);
    const again = judge(settings(server), environment());
    await server.submitted(2);
    expect(server.rows(server.batches[0]!)).toHaveLength(1);
    server.finish("expired", () => false);
    expect(await again).toMatchObject({ judged: 5, failed: 1 });
    expect(readOutput(out)[3]).toMatchObject({ rating: null, error: expect.stringContaining("the batch answers") });
  });
});
