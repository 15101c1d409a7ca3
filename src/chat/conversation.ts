/** A conversation with a model: what was said, and answers as they are generated. */
import { PolypacaError } from "../errors.js";
import type { DecodingSettings } from "../generate/decoding.js";
import type { Model } from "../native/model.js";
import { AnswerText } from "../serve/answer-text.js";
import type { ChatMessage } from "../serve/chat-messages.js";
import type { ChatPrompt } from "../serve/chat-prompt.js";
import type { Tokenizer } from "../tokenizer/index.js";

export interface ConversationOptions {
  readonly model: Pick<Model, "generate" | "spec">;
  readonly tokenizer: Tokenizer;
  readonly prompt: ChatPrompt;
  /** One beam, whatever it says. */
  readonly decoding: DecodingSettings;
  /** Of the first answer; each further one adds 1. */
  readonly seed: number;
}

export class Conversation {
  readonly #options: ConversationOptions;
  #system: string | null = null;
  #turns: ChatMessage[] = [];
  #answers = 0;

  constructor(options: ConversationOptions) {
    this.#options = options;
  }

  /** Whether answers know what was said before: the study's template has no place for it. */
  get keepsHistory(): boolean {
    return this.#options.prompt.kind === "chat";
  }

  get system(): string | null {
    return this.#system;
  }

  /** What stands before all that is said; null: nothing. The conversation begins anew. */
  set system(text: string | null) {
    this.#system = text;
    this.reset();
  }

  /** Forgets what was said; the system message stays. */
  reset(): void {
    this.#turns = [];
  }

  /**
   * The answer's text as it comes. Leaving the loop stops it; what was said until then stays said.
   *
   * @throws PolypacaError `INVALID_ARGUMENT` where the template has no place for the message or the conversation is too long
   */
  async *answer(message: string): AsyncGenerator<string, void, undefined> {
    const turns: ChatMessage[] = [...this.#turns, { role: "user", content: message }];
    const ids = this.#encode(turns);
    const maxNewTokens = this.#room(ids);
    let said = "";
    try {
      for await (const text of this.#generate(ids, maxNewTokens)) {
        said += text;
        yield text;
      }
    } finally {
      if (this.keepsHistory) this.#turns = [...turns, { role: "assistant", content: said }];
    }
  }

  #encode(turns: readonly ChatMessage[]): Int32Array {
    const system: ChatMessage[] = this.#system === null ? [] : [{ role: "system", content: this.#system }];
    return this.#options.prompt.encode([...system, ...turns]);
  }

  async *#generate(ids: Int32Array, maxNewTokens: number): AsyncGenerator<string, void, undefined> {
    const { model, tokenizer, prompt, decoding, seed } = this.#options;
    const text = new AnswerText<{ readonly token: number }>(tokenizer, prompt.form);
    const options = {
      ...{ ...decoding, maxNewTokens, seed: seed + this.#answers++ },
      eosTokenId: tokenizer.eosTokenId ?? -1,
    };
    for await (const token of model.generate(ids, options)) {
      if (prompt.stopTokenIds.has(token)) break;
      const { text: more } = text.push({ token });
      if (more !== "") yield more;
      if (text.isStopped) break;
    }
    const { text: rest } = text.end();
    if (rest !== "") yield rest;
  }

  #room(ids: Int32Array): number {
    const { model, decoding } = this.#options;
    const { positions, maxPositions } = model.spec;
    if (positions.kind !== "rope" || maxPositions === null) return decoding.maxNewTokens;
    const room = maxPositions - ids.length;
    if (room > 0) return Math.min(decoding.maxNewTokens, room);
    const advice = this.keepsHistory ? "Begin anew with /reset, or say less." : "Say less.";
    throw new PolypacaError("INVALID_ARGUMENT", `the prompt has ${ids.length} tokens, the model ${maxPositions} positions. ${advice}`);
  }
}
