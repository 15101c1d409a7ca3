/** A case in this process: a model with random weights, its trainer, and synthetic batches. */
import type { Batch, StepResult } from "../native/addon-types.js";
import { Model } from "../native/model.js";
import { Trainer } from "../native/trainer.js";
import { type BenchCase, stepSequences, stepTokens } from "./cases.js";
import { trainerOptionsOf } from "./memory-fit.js";

/** Steps before the clock counts: the first commits memory, both fill caches. */
export const warmupSteps = 2;

export class LiveCase {
  readonly benchCase: BenchCase;
  readonly #model: Model;
  readonly #trainer: Trainer;
  #steps = 0;

  private constructor(benchCase: BenchCase, model: Model) {
    this.benchCase = benchCase;
    this.#model = model;
    this.#trainer = new Trainer(model, trainerOptionsOf(benchCase));
  }

  /** @throws PolypacaError `OUT_OF_MEMORY` */
  static async open(benchCase: BenchCase): Promise<LiveCase> {
    const { shape, dtype, device, method, lora } = benchCase;
    const model = await Model.init(shape.spec, { dtype, device, seed: 0 });
    if (method === "lora") await model.addLora({ ...lora, seed: 0 });
    return new LiveCase(benchCase, model);
  }

  /** One optimiser step on a batch of its own: forward, backward, clipping, AdamW. */
  async step(signal?: AbortSignal): Promise<StepResult> {
    const { shape } = this.benchCase;
    const batch = syntheticBatch(shape.spec.vocabSize, stepSequences(shape), this.#steps++);
    const targetTokens = scoredTokens(shape);
    return this.#trainer.step([batch], { learningRate: 1e-4, targetTokens, ...(signal && { signal }) });
  }

  async dispose(): Promise<void> {
    await this.#trainer.dispose();
    await this.#model.dispose();
  }
}

/** Every token is labelled; a sequence's last has nothing to predict. */
export function scoredTokens(shape: BenchCase["shape"]): number {
  return stepTokens(shape) - stepSequences(shape).length;
}

/** Ids spread over the vocabulary by a multiplicative hash, other ones at each step. */
export function syntheticBatch(vocabSize: number, sequenceLengths: readonly number[], step: number): Batch {
  const tokens = sequenceLengths.reduce((sum, length) => sum + length, 0);
  const ids = Int32Array.from({ length: tokens }, (_, i) => (Math.imul(i + step * tokens, 0x9e3779b1) >>> 8) % vocabSize);
  return { inputIds: ids, labels: ids, sequenceLengths: Int32Array.from(sequenceLengths) };
}
