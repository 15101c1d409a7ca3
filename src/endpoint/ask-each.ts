/** Asks many things of a service, some at a time, until all are answered, the user stops, or it makes no sense to go on. */
import { PolypacaError } from "../errors.js";
import type { RequestFailure } from "./request.js";

/** How long requests under way may still answer after a stop: they are paid for. */
const graceMs = 5_000;

/** A soft stop (Ctrl-C, or an error that ends the run) and, some seconds later, a hard one. */
export class Stopping {
  readonly #stop = new AbortController();
  readonly #abort = new AbortController();
  readonly #user: AbortSignal | undefined;
  readonly #onUser = (): void => this.begin();
  #timer: NodeJS.Timeout | null = null;

  constructor(user: AbortSignal | undefined) {
    this.#user = user;
    user?.addEventListener("abort", this.#onUser, { once: true });
    if (user?.aborted) this.begin();
  }

  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  get abort(): AbortSignal {
    return this.#abort.signal;
  }

  begin(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#timer = setTimeout(() => this.#abort.abort(), graceMs);
  }

  release(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#user?.removeEventListener("abort", this.#onUser);
  }
}

export interface AskLimits {
  /** Requests at a time. */
  readonly concurrency: number;
  /** Requests that fail in turn, none being answered, after which the run ends: the next ones would fail too, and each costs time. */
  readonly mostFailuresInTurn: number;
  /** The error of such an end. */
  readonly allFail: (count: number, last: RequestFailure) => PolypacaError;
}

/**
 * Calls `ask` with each item, in order, `concurrency` at a time.
 *
 * @param ask gives the failure where there is no answer, else null; what it throws ends the run, after what is under way
 * @throws PolypacaError `CANCELLED` when stopped; that of `allFail`; whatever `ask` throws
 */
export async function askEach<T>(
  items: readonly T[],
  ask: (item: T) => Promise<RequestFailure | null>,
  { concurrency, mostFailuresInTurn, allFail }: AskLimits,
  stopping: Stopping,
): Promise<void> {
  let next = 0;
  let failuresInTurn = 0;
  const askOne = async (item: T): Promise<void> => {
    const failure = await ask(item);
    failuresInTurn = failure === null ? 0 : failuresInTurn + 1;
    if (failure !== null && failuresInTurn >= mostFailuresInTurn) throw allFail(failuresInTurn, failure);
  };
  const work = async (): Promise<void> => {
    while (next < items.length && !stopping.stop.aborted) {
      await askOne(items[next++]!).catch((cause: unknown) => {
        stopping.begin(); // the others finish what they have, and ask for nothing new
        throw cause;
      });
    }
  };
  const workers = Array.from({ length: Math.min(concurrency, items.length) }, work);
  const ends = (await Promise.allSettled(workers)).filter((end) => end.status === "rejected").map(({ reason }) => reason as unknown);
  // What began the stop says more than what followed from it.
  const cause = ends.find((end) => !isCancelled(end)) ?? ends[0];
  if (cause !== undefined) throw cause;
  if (next < items.length) throw new PolypacaError("CANCELLED", "stopped");
}

function isCancelled(cause: unknown): boolean {
  return cause instanceof PolypacaError && cause.code === "CANCELLED";
}
