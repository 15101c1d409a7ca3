/** Collects what the checks of one case find. */
export type Quantity = "logits" | "gradients" | "loraGradients" | "curve";

export class Findings {
  readonly failures: string[] = [];
  readonly notes: string[] = [];
  readonly #largest = new Map<Quantity, number>();

  /** Fails unless `error` is at most `limit`; NaN fails. */
  within(what: string, error: number, limit: number | null): void {
    if (limit !== null && !(error <= limit)) this.fail(`${what} ${error.toExponential(2)}, over the limit of ${limit.toExponential(1)}`);
  }

  fail(what: string): void {
    this.failures.push(what);
  }

  note(what: string): void {
    this.notes.push(what);
  }

  /** Keeps the largest relative error of each quantity for the report. */
  measured(quantity: Quantity, error: number): void {
    this.#largest.set(quantity, Math.max(this.#largest.get(quantity) ?? 0, error));
  }

  /** null where nothing of it was compared. */
  largest(quantity: Quantity): number | null {
    return this.#largest.get(quantity) ?? null;
  }
}
