/** How many sequences may run and wait at a time: beyond that, clients are told to come back, before any work is done for them. */
import { ApiError, invalidRequest } from "./api-error.js";

const retryAfterSeconds = 1;

export class Admission {
  readonly #capacity: number;
  #admitted = 0;

  /** @param capacity sequences that run, and those that may wait */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /**
   * Takes places for all sequences of a request, or for none; each is given back by `leave`.
   *
   * @throws ApiError 429 where there is no room now, 400 where there never is
   */
  enter(sequences: number): void {
    if (sequences > this.#capacity) {
      const message = `The request asks for ${sequences} answers, and this server takes at most ${this.#capacity} at a time. Ask for fewer ('n', prompts).`;
      throw invalidRequest(message, "n");
    }
    if (this.#admitted + sequences > this.#capacity) {
      throw new ApiError(429, `The server has ${this.#admitted} answers to give already. Ask again later.`, {
        type: "rate_limit_exceeded",
        code: "queue_full",
        headers: { "retry-after": String(retryAfterSeconds) },
      });
    }
    this.#admitted += sequences;
  }

  leave(): void {
    this.#admitted--;
  }
}
