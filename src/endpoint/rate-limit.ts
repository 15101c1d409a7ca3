/** Paces requests so that a service's limits per minute are kept rather than hit. */
import { setTimeout as sleep } from "node:timers/promises";

export interface RateLimits {
  readonly requestsPerMinute: number | null;
  readonly tokensPerMinute: number | null;
}

/** Of a minute's allowance this much may be used at once, the rest as time passes. */
const burstShareOfMinute = 1 / 12;

/**
 * Generic cell rate algorithm (ITU-T I.371): the time at which the allowance is used up moves forward with each use, and a use waits
 * until that time is at most the burst away.
 */
class Pace {
  readonly #millisecondsPerUnit: number;
  #usedUpTo = Number.NEGATIVE_INFINITY;

  constructor(unitsPerMinute: number) {
    this.#millisecondsPerUnit = 60_000 / unitsPerMinute;
  }

  /** Uses `units`, and says from when on they may be used. */
  use(units: number, now: number): number {
    this.#usedUpTo = Math.max(this.#usedUpTo, now - 60_000 * burstShareOfMinute) + units * this.#millisecondsPerUnit;
    return this.#usedUpTo;
  }

  /** Corrects an earlier use. */
  adjust(units: number): void {
    this.#usedUpTo += units * this.#millisecondsPerUnit;
  }
}

/** Resolves after so many milliseconds, or rejects when aborted. */
export type Wait = (milliseconds: number, signal: AbortSignal) => Promise<void>;

const realWait: Wait = (milliseconds, signal) => sleep(milliseconds, undefined, { signal });

export class RateLimiter {
  readonly #requests: Pace | null;
  readonly #tokens: Pace | null;
  readonly #now: () => number;
  readonly #wait: Wait;
  #pausedUntil = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds */
  constructor({ requestsPerMinute, tokensPerMinute }: RateLimits, now: () => number, wait: Wait = realWait) {
    this.#requests = requestsPerMinute === null ? null : new Pace(requestsPerMinute);
    this.#tokens = tokensPerMinute === null ? null : new Pace(tokensPerMinute);
    this.#now = now;
    this.#wait = wait;
  }

  /**
   * Waits for a request of about `tokens` tokens, input and output.
   *
   * @throws AbortError when `signal` is aborted
   */
  async acquire(tokens: number, signal: AbortSignal): Promise<void> {
    const now = this.#now();
    const at = Math.max(this.#requests?.use(1, now) ?? now, this.#tokens?.use(tokens, now) ?? now);
    await this.#waitUntil(at, signal);
    // Anyone may lengthen the pause meanwhile.
    while (this.#pausedUntil > this.#now()) await this.#waitUntil(this.#pausedUntil, signal);
  }

  /** Corrects the estimate of `acquire` by what a request really used. */
  settle(estimatedTokens: number, tokens: number): void {
    this.#tokens?.adjust(tokens - estimatedTokens);
  }

  /** Nothing starts for so long: the service asked one request to wait, and the others would meet the same limit. */
  pause(milliseconds: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#now() + milliseconds);
  }

  async #waitUntil(time: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const milliseconds = time - this.#now();
    if (milliseconds > 0) await this.#wait(milliseconds, signal);
  }
}
