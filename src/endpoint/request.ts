/** What requests to a paid service have in common, whatever they ask for. */

/** What a request is made with besides its own content. */
export interface RequestContext {
  readonly note: (line: string) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Uniform in [0, 1): spreads retries. */
  readonly random: () => number;
  /** Aborted: the user stops. Nothing new is asked, waits between attempts end; what is under way may still come. */
  readonly stop: AbortSignal;
  /** Aborted: what is under way is dropped too. */
  readonly abort: AbortSignal;
}

export interface TokenUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** @returns null where neither was reported */
export function addUsage(a: TokenUsage | null, b: TokenUsage | null): TokenUsage | null {
  if (a === null || b === null) return a ?? b;
  return { inputTokens: a.inputTokens + b.inputTokens, outputTokens: a.outputTokens + b.outputTokens };
}

/** One request has no answer, for good as far as this run goes. Whatever else is thrown ends the run. */
export class RequestFailure extends Error {
  override readonly name = "RequestFailure";
  /** Of the answers that were paid for and could not be used. */
  readonly usage: TokenUsage | null;

  constructor(reason: string, options?: { readonly cause?: unknown; readonly usage?: TokenUsage | null }) {
    super(reason, options);
    this.usage = options?.usage ?? null;
  }
}
