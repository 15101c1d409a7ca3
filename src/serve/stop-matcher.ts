/**
 * Finds stop strings in text that comes in pieces. What may be the beginning of one is held back until it is known, so that nothing
 * that belongs to a stop string is ever given out. The result does not depend on how the text is cut: of several stop strings the one
 * that is complete first ends the text, of those that are complete together the longest.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = "";
  #isStopped = false;

  /** @param stops none of them empty */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Whether a stop string was found; nothing follows. */
  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** The text that is known to stand before any stop string; may be empty. */
  push(text: string): string {
    if (this.#isStopped || text === "") return "";
    const buffer = this.#held + text;
    const cut = this.#firstStop(buffer);
    if (cut !== null) {
      this.#isStopped = true;
      this.#held = "";
      return buffer.slice(0, cut);
    }
    const kept = buffer.length - this.#possibleBeginning(buffer);
    this.#held = buffer.slice(kept);
    return buffer.slice(0, kept);
  }

  /** The text is at its end: what was held back was no stop string. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /** Where the stop string that is complete first begins. */
  #firstStop(buffer: string): number | null {
    let found: { readonly start: number; readonly end: number } | null = null;
    for (const stop of this.#stops) {
      const start = buffer.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (found === null || end < found.end || (end === found.end && start < found.start)) found = { start, end };
    }
    return found?.start ?? null;
  }

  /** Length of the longest end of `buffer` that a stop string begins with. */
  #possibleBeginning(buffer: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, buffer.length); length > longest; length--) {
        if (buffer.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
