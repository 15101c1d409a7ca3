import { setImmediate } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { RateLimiter, type Wait } from "../../src/endpoint/rate-limit.js";
import { retryAfterMs } from "../../src/endpoint/retry.js";

const never = new AbortController().signal;

/** A clock that goes from the end of one wait to that of the next. */
class TestClock {
  time = 0;
  readonly #waits: { readonly end: number; readonly resolve: () => void }[] = [];
  readonly now = (): number => this.time;
  readonly wait: Wait = (milliseconds) => new Promise((resolve) => this.#waits.push({ end: this.time + milliseconds, resolve }));

  /** Until nobody waits. */
  async run(): Promise<void> {
    for (;;) {
      await setImmediate();
      this.#waits.sort((a, b) => a.end - b.end);
      const first = this.#waits.shift();
      if (first === undefined) return;
      this.time = first.end;
      first.resolve();
    }
  }
}

/** Times at which `count` requests of `tokens` tokens, all asked for at once, may start. */
async function starts(clock: TestClock, limiter: RateLimiter, count: number, tokens: number): Promise<number[]> {
  const start = async (): Promise<number> => {
    await limiter.acquire(tokens, never);
    return clock.time;
  };
  const all = Promise.all(Array.from({ length: count }, start));
  await clock.run();
  return await all;
}

describe("a rate limiter", () => {
  it("lets requests go five seconds' worth at once, then evenly", async () => {
    const clock = new TestClock();
    const limiter = new RateLimiter({ requestsPerMinute: 60, tokensPerMinute: null }, clock.now, clock.wait);
    expect(await starts(clock, limiter, 8, 0)).toEqual([0, 0, 0, 0, 0, 1000, 2000, 3000]);
  });

  it("keeps whichever limit is tighter, and corrects an estimate that was too low", async () => {
    const clock = new TestClock();
    const limiter = new RateLimiter({ requestsPerMinute: 6000, tokensPerMinute: 600 }, clock.now, clock.wait);
    expect(await starts(clock, limiter, 2, 50)).toEqual([0, 5000]); // 10 tokens a second, 50 at once
    limiter.settle(50, 70);
    expect(await starts(clock, limiter, 1, 10)).toEqual([8000]);
  });

  it("starts nothing during a pause, also what waited already", async () => {
    const clock = new TestClock();
    const limiter = new RateLimiter({ requestsPerMinute: 60, tokensPerMinute: null }, clock.now, clock.wait);
    limiter.pause(4000);
    expect(await starts(clock, limiter, 7, 0)).toEqual([4000, 4000, 4000, 4000, 4000, 4000, 4000]);
    const waiting = starts(clock, limiter, 1, 0);
    limiter.pause(9000);
    expect(await waiting).toEqual([13_000]);
  });

  it("stops waiting when aborted", async () => {
    const controller = new AbortController();
    const limiter = new RateLimiter({ requestsPerMinute: null, tokensPerMinute: null }, Date.now);
    limiter.pause(60_000);
    const waiting = limiter.acquire(1, controller.signal);
    controller.abort();
    await expect(waiting).rejects.toThrow(/abort/i);
  });
});

describe("Retry-After", () => {
  const wallClock = Date.parse("Wed, 21 Oct 2015 07:28:00 GMT");
  it.each([
    ["seconds", { "retry-after": "3" }, 3000],
    ["a fraction of seconds", { "retry-after": " 0.5 " }, 500],
    ["a date", { "retry-after": "Wed, 21 Oct 2015 07:28:10 GMT" }, 10_000],
    ["a date that is over", { "retry-after": "Wed, 21 Oct 2015 07:27:00 GMT" }, 0],
    ["milliseconds, which go first", { "retry-after-ms": "20", "retry-after": "9" }, 20],
    ["nonsense", { "retry-after": "soon" }, null],
    ["nothing", {}, null],
  ] as const)("is read as %s", (_, headers, expected) => {
    expect(retryAfterMs((name) => (headers as Record<string, string>)[name] ?? null, wallClock)).toBe(expected);
  });
});
