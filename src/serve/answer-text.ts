/** Generated tokens to the text of an answer, as they come: whole characters, up to a stop string, trimmed where the template says so. */
import { type Tokenizer, TokenStream } from "../tokenizer/index.js";
import { StopMatcher } from "./stop-matcher.js";

export interface AnswerForm {
  /** The answer ends before the first of these. */
  readonly stops: readonly string[];
  /** White space around the answer is left out, as `generate` does. */
  readonly isTrimmed: boolean;
}

/** A token with its place in the answer's text (before trimming). */
export interface PlacedToken<Token> {
  readonly decoded: Token;
  /** Where its text begins, in Unicode characters as Python counts them. */
  readonly offset: number;
}

/** What became known with a token; both may be empty. */
export interface AnswerPart<Token> {
  readonly text: string;
  /** Tokens whose text began to be given out. Those of a stop string are in no part. */
  readonly tokens: readonly PlacedToken<Token>[];
}

interface PendingToken<Token> extends PlacedToken<Token> {
  /** As `offset`, in UTF-16 units. */
  readonly start: number;
  /** Special, or reserved: it waits for no text of its own. */
  readonly isSilent: boolean;
}

export class AnswerText<Token extends { readonly token: number }> {
  readonly #tokenizer: Tokenizer;
  readonly #stream: TokenStream;
  readonly #matcher: StopMatcher;
  readonly #trimmer: Trimmer | null;
  #pending: PendingToken<Token>[] = [];
  /** Text decoded so far, and how much of it is past the matcher, in UTF-16 units. */
  #decoded = 0;
  #passed = 0;
  #characters = 0;

  constructor(tokenizer: Tokenizer, { stops, isTrimmed }: AnswerForm) {
    this.#tokenizer = tokenizer;
    this.#stream = new TokenStream(tokenizer);
    this.#matcher = new StopMatcher(stops);
    this.#trimmer = isTrimmed ? new Trimmer() : null;
  }

  /** A stop string was found: no token need follow. */
  get isStopped(): boolean {
    return this.#matcher.isStopped;
  }

  push(decoded: Token): AnswerPart<Token> {
    const { token } = decoded;
    const text = this.#stream.push(token);
    const isSilent = this.#tokenizer.isSpecial(token) || this.#tokenizer.bytes(token).length === 0;
    this.#pending.push({ decoded, start: this.#decoded, offset: this.#characters, isSilent });
    this.#count(text);
    return this.#release(this.#matcher.push(text));
  }

  /** After the last token: what was held back. */
  end(): AnswerPart<Token> {
    const rest = this.#stream.end();
    this.#count(rest);
    const text = this.#matcher.push(rest);
    const { text: given, tokens } = this.#release(text + (this.isStopped ? "" : this.#matcher.end()));
    const last = this.isStopped ? [] : this.#pending.map(placed); // tokens without text of their own
    this.#pending = [];
    return { text: given, tokens: [...tokens, ...last] };
  }

  #count(text: string): void {
    this.#decoded += text.length;
    for (const _character of text) this.#characters++;
  }

  #release(text: string): AnswerPart<Token> {
    this.#passed += text.length;
    const held = this.#pending.findIndex(({ start, isSilent }) => (isSilent ? start > this.#passed : start >= this.#passed));
    const tokens = this.#pending.splice(0, held < 0 ? this.#pending.length : held).map(placed);
    if (this.isStopped) this.#pending = [];
    return { text: this.#trimmer?.push(text) ?? text, tokens };
  }
}

function placed<Token>({ decoded, offset }: PendingToken<Token>): PlacedToken<Token> {
  return { decoded, offset };
}

/** String.prototype.trim for text that comes in pieces. */
class Trimmer {
  #hasBegun = false;
  #space = "";

  push(text: string): string {
    const all = this.#space + (this.#hasBegun ? text : text.trimStart());
    const kept = all.trimEnd();
    this.#hasBegun ||= kept !== "";
    this.#space = this.#hasBegun ? all.slice(kept.length) : "";
    return kept;
  }
}
