/** An engine whose answers a test writes: token for token, as fast as the test lets them come. */
import { once } from "node:events";
import { alpacaTemplates } from "../../src/data/index.js";
import { PolypacaError } from "../../src/errors.js";
import type { DecodedToken, SequenceOptions } from "../../src/generate/continuous-batch.js";
import type { SequenceEngine } from "../../src/serve/answer-sequence.js";
import { studyPrompt } from "../../src/serve/chat-prompt.js";
import type { ServedModels } from "../../src/serve/served-models.js";
import { characterTokenizer } from "../data/data-folder.js";

export const eos = 2;
const tokenizer = characterTokenizer();

/** What the model says to a prompt: pieces of text, or an error that it ends with. An endless one goes on until maxNewTokens. */
export type Script = (prompt: string, options: SequenceOptions) => Iterable<string | Error>;

export interface ScriptedEngine extends SequenceEngine {
  readonly asked: readonly { readonly prompt: string; readonly options: SequenceOptions }[];
  /** Sequences that were taken out before they ended. */
  readonly cancelled: () => number;
  /** While it is held, no token comes. */
  hold(): void;
  release(): void;
}

/** Characters are the tokens, as characterTokenizer has them. */
export function scriptedEngine(script: Script, { slots = 4, maxLength = 4096 } = {}): ScriptedEngine {
  const state = { running: 0, waiting: 0, cancelled: 0, gate: Promise.resolve(), open: (): void => {}, isClosed: false };
  const asked: { prompt: string; options: SequenceOptions }[] = [];
  const closed = new AbortController();

  async function* decode(prompt: Int32Array, options: SequenceOptions, signal?: AbortSignal): AsyncGenerator<DecodedToken> {
    const text = tokenizer.decode(prompt);
    asked.push({ prompt: text, options });
    const stop = AbortSignal.any([closed.signal, ...(signal ? [signal] : [])]);
    const stopped = once(stop, "abort").then(() => {
      throw new PolypacaError("CANCELLED", "cancelled");
    });
    stopped.catch(() => {});
    let isDone = false;
    state.running++;
    try {
      let count = 0;
      const characters = [...script(text, options)].flatMap((piece): (string | Error)[] => (piece instanceof Error ? [piece] : [...piece]));
      for (const character of [...characters, null]) {
        await Promise.race([state.gate, stopped]);
        await Promise.race([new Promise((resolve) => setImmediate(resolve)), stopped]);
        if (stop.aborted) await stopped;
        if (character instanceof Error) throw character;
        const token = character === null ? eos : tokenizer.encode(character)[0]!;
        count++;
        const finish = character === null ? "stop" : count === options.maxNewTokens ? "length" : null;
        isDone = finish !== null;
        const top = Array.from({ length: options.topLogprobs }, (_, i) => ({ token: token + i, logprob: -1 - i }));
        yield { token, logprob: -1, top, finish };
        if (finish !== null) return;
      }
    } finally {
      state.running--;
      if (!isDone) state.cancelled++;
    }
  }

  return {
    ...{ slots, maxLength, decode, asked, cancelled: () => state.cancelled },
    get running() {
      return Math.min(state.running, slots);
    },
    get waiting() {
      return Math.max(0, state.running - slots);
    },
    hold: () => {
      state.gate = new Promise((resolve) => {
        state.open = resolve;
      });
    },
    release: () => state.open(),
    close: async () => closed.abort(),
  };
}

/** A base model "base" and an adapter "tuned" over one engine, with the study's template. */
export function scriptedModels(engine: SequenceEngine): ServedModels {
  const prompt = studyPrompt(alpacaTemplates.lora, tokenizer);
  const models = [
    { id: "base", parent: null, adapter: null, prompt, fingerprint: "fp_base" },
    { id: "tuned", parent: "base", adapter: "tuned", prompt, fingerprint: "fp_tuned" },
  ];
  return {
    models: new Map(models.map((model) => [model.id, model])),
    ...{ tokenizer, engine, vocabSize: tokenizer.vocabSize, longestTokenBytes: 4, close: () => engine.close() },
  };
}
