import type { Tokenizer } from "./tokenizer.js";

/**
 * Turns generated tokens into text as they come. A character whose bytes are spread over several tokens appears with its last one.
 *
 * The text goes on from the prompt, so a first space is kept; `continuation: false` drops it as `decode` does.
 */
export class TokenStream {
  readonly #tokenizer: Tokenizer;
  readonly #skipSpecial: boolean;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #dropsSpace: boolean;

  constructor(tokenizer: Tokenizer, options: { readonly skipSpecial?: boolean; readonly continuation?: boolean } = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecial = options.skipSpecial ?? true;
    this.#dropsSpace = tokenizer.stripsLeadingSpace && !(options.continuation ?? true);
  }

  /** Text that is complete with this token; may be empty. */
  push(id: number): string {
    if (this.#skipSpecial && this.#tokenizer.isSpecial(id)) return "";
    return this.#withoutDummyPrefix(this.#decoder.decode(this.#tokenizer.bytes(id), { stream: true }));
  }

  /** What is left: U+FFFD where the last character is incomplete, else nothing. */
  end(): string {
    return this.#withoutDummyPrefix(this.#decoder.decode());
  }

  #withoutDummyPrefix(text: string): string {
    if (!this.#dropsSpace || text === "") return text;
    this.#dropsSpace = false;
    return text.startsWith(" ") ? text.slice(1) : text;
  }
}
