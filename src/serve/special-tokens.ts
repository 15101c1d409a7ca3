/**
 * Text that a chat template made, to ids. What the template wrote as special tokens becomes their ids; the same characters in what
 * people wrote stay plain text, so that nobody can end their own message or speak as someone else.
 */
import type { Tokenizer } from "../tokenizer/index.js";

export class SpecialTokens {
  readonly #tokenizer: Tokenizer;
  readonly #ids = new Map<string, number>();
  readonly #pattern: RegExp | null;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      const name = tokenizer.isSpecial(id) ? tokenizer.piece(id) : undefined;
      if (name !== undefined && name.length > 1) this.#ids.set(name, id); // one character could not be told from text
    }
    const names = [...this.#ids.keys()].sort((a, b) => b.length - a.length).map(escapeForRegExp);
    this.#pattern = names.length > 0 ? new RegExp(names.join("|"), "g") : null;
  }

  /** The text with `mark`, a character that it does not contain, in every name of a special token. */
  guard(text: string, mark: string): string {
    return this.#pattern === null ? text : text.replace(this.#pattern, (name) => `${name[0]}${mark}${name.slice(1)}`);
  }

  /** Special tokens outside what was guarded as ids, everything else as plain text. */
  encode(text: string, mark: string): Int32Array {
    const ids: number[] = [];
    const add = (plain: string): void => {
      if (plain !== "") ids.push(...this.#tokenizer.encode(plain.replaceAll(mark, "")));
    };
    let at = 0;
    for (const match of this.#pattern === null ? [] : text.matchAll(this.#pattern)) {
      add(text.slice(at, match.index));
      ids.push(this.#ids.get(match[0])!);
      at = match.index + match[0].length;
    }
    add(text.slice(at));
    return Int32Array.from(ids);
  }
}

/** A private-use character that none of the texts has. */
export function unusedCharacter(texts: readonly string[]): string {
  for (let code = 0xe000; code <= 0xf8ff; code++) {
    const mark = String.fromCharCode(code);
    if (!texts.some((text) => text.includes(mark))) return mark;
  }
  return "\u{f0000}"; // 6,400 different private characters in one conversation: one more, of another plane
}

function escapeForRegExp(name: string): string {
  return name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
