/** Asking a service again: which faults are worth it, how long to wait, and when to stop. */
import { setTimeout as sleep } from "node:timers/promises";
import { PolypacaError } from "../errors.js";
import { addUsage, type RequestContext, RequestFailure, type TokenUsage } from "./request.js";

/** No usable answer arrived: refused connection, broken off, timed out. The request may have been carried out all the same. */
export class ConnectionFault extends Error {
  override readonly name = "ConnectionFault";
}

/** The service answered with an HTTP error. */
export class HttpFault extends Error {
  override readonly name = "HttpFault";
  readonly status: number;
  /** Of Retry-After; null: it did not say. */
  readonly retryAfterMs: number | null;
  /** The service's own name of the error, such as "insufficient_quota". */
  readonly code: string;

  constructor(status: number, message: string, options: { readonly retryAfterMs: number | null; readonly code?: string | null }) {
    super(message);
    this.status = status;
    this.retryAfterMs = options.retryAfterMs;
    this.code = options.code ?? "";
  }
}

/** An answer came and is of no use: malformed, cut off, a refusal. It has been paid for. */
export class BadAnswer extends Error {
  override readonly name = "BadAnswer";
  readonly usage: TokenUsage | null;

  constructor(reason: string, usage: TokenUsage | null = null) {
    super(reason);
    this.usage = usage;
  }
}

export interface RetryPolicy {
  /** After connection faults and HTTP errors that may pass; 0: none. */
  readonly maxRetries: number;
  /** After answers that cannot be used. Few, since each is paid for. */
  readonly maxBadAnswers: number;
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
}

/** With 8 retries a service may be away for 90 seconds. */
export const defaultRetryPolicy: RetryPolicy = { maxRetries: 8, maxBadAnswers: 2, firstDelayMs: 500, longestDelayMs: 30_000 };

export interface RetryHooks {
  /** Who is asked, for messages: "openai". */
  readonly who: string;
  readonly context: RequestContext;
  /** The service asked to wait. */
  readonly onPause?: (milliseconds: number) => void;
  /** An answer was of no use, has been paid for, and another is asked for. */
  readonly onBadAnswer?: (usage: TokenUsage | null) => void;
  /** @returns why no request can succeed (a key that is refused); null for errors of this request */
  readonly hopeless?: (fault: HttpFault) => string | null;
}

/**
 * Runs `attempt` until it gives an answer. Faults that may pass are waited out, with a delay that doubles from turn to turn (and is
 * never shorter than what Retry-After asks for), and every retry is noted.
 *
 * @param attempt `badAnswers` counts the unusable answers so far: a service that honours the idempotency key would repeat such an
 *   answer, so another key has to be derived from it; after faults the key stays
 * @throws RequestFailure after the last retry, and for errors that repeating does not mend; PolypacaError `CANCELLED` when stopped,
 *   `USAGE` where no request can succeed
 */
export async function withRetries<T>(attempt: (badAnswers: number) => Promise<T>, policy: RetryPolicy, hooks: RetryHooks): Promise<T> {
  const { stop, note, random } = hooks.context;
  let faults = 0;
  let badAnswers = 0;
  let lost: TokenUsage | null = null;
  for (;;) {
    try {
      assertGoing(stop);
      return await attempt(badAnswers);
    } catch (cause) {
      if (cause instanceof PolypacaError) throw cause;
      if (stop.aborted) throw cancelled(cause);
      if (cause instanceof BadAnswer) {
        lost = addUsage(lost, cause.usage);
        if (badAnswers === policy.maxBadAnswers) throw new RequestFailure(afterTurns(cause.message, badAnswers), { cause, usage: lost });
        badAnswers++;
        hooks.onBadAnswer?.(cause.usage);
        note(`${hooks.who}: ${cause.message}; asked again (${badAnswers} of ${policy.maxBadAnswers})`);
        continue;
      }
      refuseHopeless(cause, hooks);
      if (!mayPass(cause)) throw failureOf(cause, 0, lost);
      if (faults === policy.maxRetries) throw failureOf(cause, faults, lost);
      const delay = delayBefore(faults++, cause, policy, random);
      if (cause instanceof HttpFault && cause.retryAfterMs !== null) hooks.onPause?.(delay);
      note(`${hooks.who}: ${messageOf(cause)}; asked again in ${(delay / 1000).toFixed(1)} s (${faults} of ${policy.maxRetries})`);
      await sleep(delay, undefined, { signal: stop }).catch((aborted: unknown) => {
        throw cancelled(aborted);
      });
    }
  }
}

/** @throws PolypacaError `CANCELLED` */
export function assertGoing(stop: AbortSignal): void {
  if (stop.aborted) throw cancelled(stop.reason);
}

function cancelled(cause: unknown): PolypacaError {
  return new PolypacaError("CANCELLED", "stopped before an answer came", { cause });
}

function refuseHopeless(cause: unknown, { who, hopeless }: RetryHooks): void {
  const reason = cause instanceof HttpFault ? (hopeless?.(cause) ?? null) : null;
  if (reason !== null) throw new PolypacaError("USAGE", `${who}: ${messageOf(cause)}. ${reason}`, { cause });
}

/** Lost connections, and the statuses by which HTTP services say "later" (408, 409 locks, 425, 429) or that they broke (5xx). */
function mayPass(cause: unknown): boolean {
  if (cause instanceof ConnectionFault) return true;
  return cause instanceof HttpFault && (cause.status >= 500 || [408, 409, 425, 429].includes(cause.status));
}

function failureOf(cause: unknown, turns: number, usage: TokenUsage | null): Error {
  if (!(cause instanceof ConnectionFault || cause instanceof HttpFault)) return PolypacaError.from(cause);
  return new RequestFailure(afterTurns(messageOf(cause), turns), { cause, usage });
}

function afterTurns(reason: string, turns: number): string {
  return turns === 0 ? reason : `${reason} (also after ${turns} ${turns === 1 ? "retry" : "retries"})`;
}

function messageOf(cause: unknown): string {
  if (cause instanceof HttpFault) return `HTTP ${cause.status}${cause.message === "" ? "" : ` (${cause.message})`}`;
  return cause instanceof Error ? cause.message : String(cause);
}

/** Doubling, less up to a quarter so that requests that failed together do not come back together. */
function delayBefore(turn: number, cause: unknown, { firstDelayMs, longestDelayMs }: RetryPolicy, random: () => number): number {
  const asked = cause instanceof HttpFault ? (cause.retryAfterMs ?? 0) : 0;
  return Math.max(asked, Math.min(firstDelayMs * 2 ** turn, longestDelayMs) * (1 - random() / 4));
}

/**
 * Milliseconds that `Retry-After` (seconds or a date, RFC 9110 section 10.2.3) or `retry-after-ms` ask for; null for neither.
 *
 * @param wallClock milliseconds since 1970, for dates
 */
export function retryAfterMs(header: (name: string) => string | null, wallClock: number): number | null {
  const milliseconds = Number.parseFloat(header("retry-after-ms") ?? "");
  if (milliseconds >= 0) return milliseconds;
  const value = header("retry-after");
  if (value === null) return null;
  const until = /^\s*\d+(\.\d+)?\s*$/.test(value) ? 1000 * Number(value) : Date.parse(value) - wallClock;
  return Number.isNaN(until) ? null : Math.max(0, until);
}

/**
 * Runs one attempt with a limit of time that holds to its end: HTTP clients stop counting when the headers are there, and a body can
 * stall too.
 *
 * @throws ConnectionFault when the time is over
 */
export async function withTimeout<T>(run: (signal: AbortSignal) => Promise<T>, timeoutMs: number, abort: AbortSignal): Promise<T> {
  const controller = new AbortController();
  const drop = (): void => controller.abort(abort.reason);
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    controller.abort();
  }, timeoutMs);
  if (abort.aborted) drop();
  abort.addEventListener("abort", drop, { once: true });
  try {
    return await run(controller.signal);
  } catch (cause) {
    if (isOver) throw new ConnectionFault(`no answer within ${timeoutMs / 1000} s`, { cause });
    throw cause;
  } finally {
    clearTimeout(timer);
    abort.removeEventListener("abort", drop);
  }
}
