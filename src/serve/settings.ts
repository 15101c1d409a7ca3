import type { ComputeDType } from "../native/addon-types.js";

/** An adapter under the name that requests give. */
export interface NamedAdapter {
  readonly name: string;
  readonly dir: string;
}

export interface ServeLimits {
  readonly maxBodyBytes: number;
  /** Sequences that may wait for a slot. */
  readonly queue: number;
  /** Of one request, waiting included. */
  readonly requestTimeoutMs: number;
  /** For a request's headers to arrive. */
  readonly headersTimeoutMs: number;
  /** For a request's body to arrive, headers included. */
  readonly bodyTimeoutMs: number;
  /** How long the reader of a stream may take nothing. */
  readonly stallTimeoutMs: number;
}

export interface ServeSettings {
  readonly model: string;
  readonly adapters: readonly NamedAdapter[];
  /** Of the model alone in requests; null: its run's or folder's. */
  readonly name: string | null;
  /** null: each model's own. */
  readonly template: string | null;
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** null: none is asked for. */
  readonly apiKey: string | null;
  /** Sequences decoded together. */
  readonly slots: number;
  /** Of a prompt and its answer, in tokens; null: 2,048, or what the model has. */
  readonly maxLength: number | null;
  readonly device: string;
  readonly dtype: ComputeDType | null;
  readonly limits: ServeLimits;
  /** How long running requests may go on when the server is told to stop. */
  readonly shutdownTimeoutMs: number;
}

export interface ServeEnvironment {
  readonly note: (line: string) => void;
  /** Milliseconds of a steady clock. */
  readonly now: () => number;
  /** The time of day: `created` in answers, and what chat templates show. */
  readonly date: () => Date;
  /** Of [0, 1): seeds of requests that name none. */
  readonly random: () => number;
  /** Unique: names of requests. */
  readonly newId: () => string;
  readonly residentBytes: () => number;
}
