/** 5,000 pairs judged, the process killed five times. */
import { beforeAll, describe, expect, it } from "vitest";
import { compile } from "../cli/run-cli.js";
import { temporaryFolder } from "../data/data-folder.js";
import type { Misbehaviour } from "../endpoint/chat-server.js";
import { concurrency, killAndFinish } from "../evaluate/judge/judging.js";

const pairs = 5_000;
const kills = 5;

beforeAll(compile);

const ways: readonly Misbehaviour[] = [
  { kind: "status", status: 429, headers: { "retry-after-ms": "20" } },
  { kind: "status", status: 503 },
  { kind: "cut" },
  { kind: "status", status: 429, headers: { "retry-after": "1" } },
  { kind: "hang" },
  { kind: "cut in the body" },
  { kind: "not JSON" },
  { kind: "refusal" },
  { kind: "says", content: "A 3, as it asks." },
  { kind: "says", content: '{"explanation": "Superb.", "rating": 5}' },
  { kind: "stall in the body" },
];

describe("5,000 pairs, judged with five kills", { timeout: 600_000 }, () => {
  it("cost at most the pairs and what was under way at each kill", async () => {
    const server = await killAndFinish({ folder: await temporaryFolder(), pairs, kills, server: { latencyMs: 1 } });
    expect(server.requests.length).toBeLessThanOrEqual(pairs + kills * concurrency);
    expect(new Set(server.requests.map((request) => request.key)).size).toBe(pairs);
  });

  it("cost exactly the pairs, and the unusable answers, where the server misbehaves and honours keys", async () => {
    const every = 100;
    const misbehave = ({ number }: { readonly number: number }): Misbehaviour | null =>
      number % every === 0 ? ways[(number / every) % ways.length]! : null;
    const server = await killAndFinish({ folder: await temporaryFolder(), pairs, kills, server: { honoursKeys: true, misbehave } });
    expect(server.unusable()).toBeGreaterThan(0);
    expect(server.charged()).toBe(pairs + server.unusable());
  });
});
