/** What a server counts of itself. */
import { type Counter, type Histogram, MetricsPage } from "./metrics.js";

export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/** Seconds, from a token of a small model on a GPU to a long wait in the queue. */
const latencyBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** What gauges read; null while the model is loading. */
export interface EngineState {
  readonly running: number;
  readonly waiting: number;
  readonly slots: number;
  readonly maxLength: number;
}

export class ServerMetrics {
  readonly #page = new MetricsPage();
  readonly #requests: Counter;
  readonly promptTokens: Counter;
  readonly generatedTokens: Counter;
  readonly cancelledSequences: Counter;
  readonly secondsToFirstToken: Histogram;
  readonly secondsPerToken: Histogram;
  readonly requestSeconds: Histogram;

  constructor(engine: () => EngineState | null, residentBytes: () => number) {
    const page = this.#page;
    const ofEngine = (name: keyof EngineState) => (): number => engine()?.[name] ?? 0;
    this.#requests = page.counter("polypaca_http_requests_total", "Requests by route and status; 499 where the client left.");
    page.gauge("polypaca_sequences_running", "Sequences in the batch.", ofEngine("running"));
    page.gauge("polypaca_sequences_waiting", "Sequences that wait for a slot.", ofEngine("waiting"));
    page.gauge("polypaca_kv_slots", "Slots of the key/value cache, one per running sequence.", ofEngine("slots"));
    page.gauge("polypaca_kv_slots_in_use", "Slots that hold a sequence.", ofEngine("running"));
    page.gauge("polypaca_kv_slot_tokens", "Positions of a slot.", ofEngine("maxLength"));
    this.promptTokens = page.counter("polypaca_prompt_tokens_total", "Tokens of prompts, once per answer.");
    this.generatedTokens = page.counter("polypaca_generated_tokens_total", "Tokens generated.");
    this.cancelledSequences = page.counter("polypaca_sequences_cancelled_total", "Sequences that ended before their answer did.");
    this.secondsToFirstToken = page.histogram(
      "polypaca_time_to_first_token_seconds",
      "From the request to the first token of an answer, waiting included.",
      latencyBounds,
    );
    this.secondsPerToken = page.histogram("polypaca_time_per_token_seconds", "Between two tokens of an answer.", latencyBounds);
    this.requestSeconds = page.histogram(
      "polypaca_request_seconds",
      "Requests for answers, from the first byte to the last.",
      latencyBounds,
    );
    page.gauge("process_resident_memory_bytes", "Resident memory of the server.", residentBytes);
    for (const counter of [this.promptTokens, this.generatedTokens, this.cancelledSequences]) counter.add(0); // there from the start
  }

  countRequest(route: string, status: number): void {
    this.#requests.add(1, { route, status: String(status) });
  }

  get text(): string {
    return this.#page.text;
  }
}
