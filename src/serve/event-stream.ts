/** Server-sent events that go as fast as the client reads: `send` waits while the socket's buffer is full, so no more than that is kept. */
import type { ServerResponse } from "node:http";

/** The client takes nothing for too long. */
export class StalledReader extends Error {}

export class EventStream {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;
  readonly #stallMs: number;

  /**
   * @param signal ends waiting for the client, with its reason
   * @param stallMs how long a client may take nothing while something waits for it
   */
  constructor(response: ServerResponse, options: { readonly signal: AbortSignal; readonly stallMs: number }) {
    this.#response = response;
    this.#signal = options.signal;
    this.#stallMs = options.stallMs;
  }

  /** @throws StalledReader, or the signal's reason */
  async send(event: object): Promise<void> {
    await this.#write(`data: ${JSON.stringify(event)}\n\n`);
  }

  /** The end as OpenAI's clients expect it. */
  async end(): Promise<void> {
    await this.#write("data: [DONE]\n\n");
    this.#response.end();
  }

  async #write(text: string): Promise<void> {
    this.#signal.throwIfAborted();
    if (!this.#response.headersSent) {
      const headers = { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no" };
      this.#response.writeHead(200, headers);
    }
    if (!this.#response.write(text)) await this.#drained();
  }

  #drained(): Promise<void> {
    const [response, signal] = [this.#response, this.#signal];
    return new Promise((resolve, reject) => {
      const settle = (then: () => void) => (): void => {
        clearTimeout(timer);
        response.off("drain", onDrain);
        signal.removeEventListener("abort", onAbort);
        then();
      };
      const onDrain = settle(resolve);
      const onAbort = settle(() => reject(signal.reason));
      const timer = setTimeout(
        settle(() => reject(new StalledReader(`the client took nothing for ${this.#stallMs / 1000} s`))),
        this.#stallMs,
      );
      response.on("drain", onDrain);
      signal.addEventListener("abort", onAbort);
    });
  }
}
