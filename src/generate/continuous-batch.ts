/** Continuous batching: sequences join and leave a running batch between two tokens. */
import { PolypacaError } from "../errors.js";
import { onAbort } from "../native/abort.js";
import type { NativeContinuousBatch, NativeDecodedToken, SequenceOptions, TokenLogprob } from "../native/addon-types.js";
import { type Model, wrapErrors } from "../native/model.js";

export type { SequenceOptions, TokenLogprob } from "../native/addon-types.js";

export interface DecodedToken extends TokenLogprob {
  /** The likeliest, best first; as many as `topLogprobs` says. */
  readonly top: readonly TokenLogprob[];
  /** "stop": this is EOS; "length": the last that maxNewTokens, the cache or the model's positions allow; null: more follow. */
  readonly finish: "stop" | "length" | null;
}

export interface ContinuousBatchOptions {
  /** Sequences that are decoded together. */
  readonly slots: number;
  /** Tokens of prompt and answer together. */
  readonly maxLength: number;
}

/** Prompt tokens read in one step: what a new prompt may cost those that are being decoded. A longer prompt is read on its own. */
const admittedTokens = 512;

interface Sequence {
  readonly number: number;
  readonly prompt: Int32Array;
  readonly options: SequenceOptions;
  /** Tokens that the reader has not taken yet. */
  readonly decoded: DecodedToken[];
  wake: () => void;
  /** Why there will be no more tokens, where that is an error. */
  failure: PolypacaError | null;
}

/**
 * One model's running batch. It works while there are sequences, and rests otherwise.
 *
 * In fp32 a sequence that is alone gets the tokens that `generate` decodes; beside others its logits differ by rounding, since products
 * of other shapes add up in another order. A draw is a function of seed, prompt and position: it does not depend on the neighbours.
 */
export class ContinuousBatch {
  readonly slots: number;
  readonly maxLength: number;
  readonly #model: Model;
  readonly #native: NativeContinuousBatch;
  readonly #queue: Sequence[] = [];
  readonly #running = new Map<number, Sequence>();
  #removals: number[] = [];
  #loop: Promise<void> | null = null;
  #last = 0;
  #closed = false;

  private constructor(model: Model, native: NativeContinuousBatch, { slots, maxLength }: ContinuousBatchOptions) {
    this.#model = model;
    this.#native = native;
    this.slots = slots;
    this.maxLength = maxLength;
  }

  /**
   * Commits the caches: slots x maxLength positions of keys and values.
   *
   * @throws PolypacaError `OUT_OF_MEMORY` with figures; `INVALID_ARGUMENT` for a maxLength over the model's positions
   */
  static async open(model: Model, options: ContinuousBatchOptions): Promise<ContinuousBatch> {
    const { maxPositions, positions } = model.spec;
    if (positions.kind === "rope" && maxPositions !== null && options.maxLength > maxPositions) {
      throw new PolypacaError("INVALID_ARGUMENT", `maxLength ${options.maxLength}: the model has ${maxPositions} positions.`);
    }
    return new ContinuousBatch(model, await wrapErrors(model.native.openBatch(options)), options);
  }

  /** Sequences in the batch. */
  get running(): number {
    return this.#running.size;
  }

  /** Sequences that wait for a slot: first come, first served. */
  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * Joins the batch at the next token, or waits for a slot. Leaving the loop takes the sequence out of the batch or the queue; so does
   * `signal`, also while the reader waits for a token.
   *
   * @throws PolypacaError `INVALID_ARGUMENT` for a prompt that is empty, too long or no ids of this model; `NOT_FINITE` where the model's
   *   scores are of no use; `CANCELLED` where the signal aborts or the batch is closed
   */
  async *decode(prompt: Int32Array, options: SequenceOptions, signal?: AbortSignal): AsyncGenerator<DecodedToken, void, undefined> {
    if (this.#closed) throw new PolypacaError("DISPOSED", "this batch was closed");
    this.#assertPossible(prompt, options);
    const sequence: Sequence = { number: ++this.#last, prompt, options, decoded: [], wake: () => {}, failure: null };
    const release = onAbort(signal, () => cancel(sequence));
    this.#queue.push(sequence);
    this.#loop ??= this.#run();
    try {
      for (;;) {
        const token = sequence.decoded.shift();
        if (token !== undefined) {
          yield token;
          if (token.finish !== null) return;
        } else if (sequence.failure !== null) {
          throw sequence.failure;
        } else {
          await new Promise<void>((resolve) => {
            sequence.wake = resolve;
          });
        }
      }
    } finally {
      release();
      this.#leave(sequence);
    }
  }

  /** Ends: what is being decoded throws `CANCELLED`. Frees the caches. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.requestStop();
    this.#failAll(new PolypacaError("CANCELLED", "the batch was closed"));
    await this.#loop;
    await wrapErrors(this.#native.dispose());
  }

  /** Native code would refuse it too, but then the whole step fails, and with it the others. */
  #assertPossible(prompt: Int32Array, options: SequenceOptions): void {
    const { adapter, topLogprobs } = options;
    const { vocabSize } = this.#model.spec;
    const refuse = (message: string): never => {
      throw new PolypacaError("INVALID_ARGUMENT", message);
    };
    if (prompt.length === 0) refuse("the prompt is empty");
    if (prompt.length >= this.maxLength) {
      refuse(`the prompt's ${prompt.length} tokens leave no room for an answer: both together may have ${this.maxLength}`);
    }
    const stranger = prompt.find((id) => id < 0 || id >= vocabSize);
    if (stranger !== undefined) refuse(`the prompt holds id ${stranger}, the vocabulary has ${vocabSize} entries`);
    if (adapter !== null && !this.#model.adapters.includes(adapter)) refuse(`there is no adapter named "${adapter}"`);
    if (topLogprobs < 0 || topLogprobs > 20) refuse(`topLogprobs is ${topLogprobs}, it may be 0 to 20`);
    for (const [name, isGood, expected] of rangesOf(options)) if (!isGood) refuse(`${name} is ${options[name]}, expected ${expected}`);
  }

  /** Steps while there is something to decode. */
  async #run(): Promise<void> {
    try {
      // What asks in the same turn of the event loop joins together.
      await new Promise((resolve) => setImmediate(resolve));
      while (!this.#closed && (this.#queue.length > 0 || this.#running.size > 0)) {
        const removals = this.#removals;
        this.#removals = [];
        for (const token of await wrapErrors(this.#native.step(removals, this.#admit()))) this.#deliver(token);
      }
      if (!this.#closed && this.#removals.length > 0) await wrapErrors(this.#native.step(this.#removals.splice(0), []));
    } catch (cause) {
      const failure = PolypacaError.from(cause);
      if (!this.#closed) {
        // The native batch may be half way through a step: its sequences cannot go on, later ones can.
        this.#removals.push(...this.#running.keys());
        this.#failAll(failure);
      }
    } finally {
      this.#loop = null;
      if (!this.#closed && this.#queue.length > 0) this.#loop = this.#run();
    }
  }

  #admit() {
    const admissions = [];
    let tokens = 0;
    while (this.#queue.length > 0 && this.#running.size < this.slots) {
      const next = this.#queue[0]!;
      if (admissions.length > 0 && tokens + next.prompt.length > admittedTokens) break;
      tokens += next.prompt.length;
      this.#queue.shift();
      this.#running.set(next.number, next);
      admissions.push({ sequence: next.number, prompt: next.prompt, options: { ...next.options, numBeams: 1, lengthPenalty: 1 } });
    }
    return admissions;
  }

  #deliver({ sequence: number, token, logprob, top, finish }: NativeDecodedToken): void {
    const sequence = this.#running.get(number);
    if (sequence === undefined) return; // its reader left during this step
    if (finish !== null) this.#running.delete(number);
    if (finish === "not_finite") {
      sequence.failure = new PolypacaError(
        "NOT_FINITE",
        "the model's scores for the next token are not finite. Are the weights whole, and the adapter this model's?",
      );
    } else {
      sequence.decoded.push({ token, logprob, top, finish });
    }
    sequence.wake();
  }

  #leave(sequence: Sequence): void {
    const at = this.#queue.indexOf(sequence);
    if (at >= 0) this.#queue.splice(at, 1);
    if (this.#running.delete(sequence.number)) this.#removals.push(sequence.number);
  }

  #failAll(failure: PolypacaError): void {
    for (const sequence of [...this.#queue.splice(0), ...this.#running.values()]) {
      sequence.failure = failure;
      sequence.wake();
    }
    this.#running.clear();
  }
}

/** Tokens that the reader has not taken are of no use to it. */
function cancel(sequence: Sequence): void {
  sequence.decoded.length = 0;
  sequence.failure = new PolypacaError("CANCELLED", "the sequence was cancelled");
  sequence.wake();
}

/** Native code computes with fp32. */
function rangesOf(options: SequenceOptions): readonly (readonly [keyof SequenceOptions, boolean, string])[] {
  const { maxNewTokens, repetitionPenalty, temperature, topP, topK, noRepeatNgramSize, minNewTokens, seed } = options;
  const isCount = (value: number, least: number): boolean => Number.isSafeInteger(value) && value >= least;
  const single = Math.fround(repetitionPenalty);
  return [
    ["maxNewTokens", isCount(maxNewTokens, 1), "a whole number, at least 1"],
    ["minNewTokens", isCount(minNewTokens, 0), "a whole number, at least 0"],
    ["noRepeatNgramSize", isCount(noRepeatNgramSize, 0), "a whole number, at least 0"],
    ["topK", isCount(topK, 0), "a whole number, at least 0"],
    ["seed", isCount(seed, 0), "a whole number, at least 0"],
    ["repetitionPenalty", single > 0 && Number.isFinite(single), "a positive number"],
    ["temperature", temperature >= 0 && Number.isFinite(Math.fround(temperature)), "a number, at least 0"],
    ["topP", Math.fround(topP) > 0 && topP <= 1, "a number above 0, at most 1"],
  ];
}
