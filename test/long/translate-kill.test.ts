/** 1,000 real records into two languages, the process killed five times. */
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile } from "../cli/run-cli.js";
import { realDataDir, sampleDir } from "../data/data-folder.js";
import type { Misbehaviour } from "../endpoint/chat-server.js";
import { concurrency, type KillPlan, killAndFinish } from "../translate/kill-runs.js";

const demo = join(realDataDir, "alpaca_zh_demo.json");
const source = existsSync(demo) ? { data: demo, source: "zh" } : { data: join(sampleDir, "alpaca.zh.json"), source: "zh" };
const kills = 5;

beforeAll(compile);

function plan(server: KillPlan["server"]): KillPlan {
  const out = join(mkdtempSync(join(tmpdir(), "polypaca-translate-")), "out");
  return { ...source, languages: ["fi", "de"], out, kills, server };
}

const ways: readonly Misbehaviour[] = [
  { kind: "status", status: 429, headers: { "retry-after-ms": "20" } },
  { kind: "status", status: 503 },
  { kind: "cut" },
  { kind: "status", status: 429, headers: { "retry-after": "1" } },
  { kind: "hang" },
  { kind: "cut in the body" },
  { kind: "not JSON" },
  { kind: "refusal" },
  { kind: "prose" },
];

describe(`${source.data.split("/").at(-1)}, translated with five kills`, { timeout: 600_000 }, () => {
  it("costs at most the segments and what was under way at each kill, and exactly the segments where keys are honoured", async () => {
    const { server, segments } = await killAndFinish(plan({ latencyMs: 1 }));
    expect(server.requests.length).toBeLessThanOrEqual(2 * segments + kills * concurrency);
    expect(new Set(server.requests.map((request) => request.key)).size).toBe(2 * segments);
  });

  it("costs exactly the segments, and the unusable answers, where the server misbehaves as well", async () => {
    // Every so many requests only, so that hangs and waits do not add up to minutes.
    const every = source.data === demo ? 200 : 7;
    const misbehave = ({ number }: { readonly number: number }): Misbehaviour | null =>
      number % every === 0 ? ways[(number / every) % ways.length]! : null;
    const { server, segments } = await killAndFinish(plan({ honoursKeys: true, misbehave }));
    expect(server.unusable()).toBeGreaterThan(0);
    expect(server.charged()).toBe(2 * segments + server.unusable());
  });
});
