/**
 * A run without a model: "training" is gradient descent on a quadratic, in plain numbers, with a momentum that has to be saved and
 * restored for a resumed run to end where an uninterrupted one does.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PolypacaError } from "../../src/errors.js";
import type { Batch, StepOptions, StepResult } from "../../src/native/addon-types.js";
import { stateFileName } from "../../src/train/checkpoints.js";
import type { StepBatch, StepRunner, TrainingRun } from "../../src/train/loop.js";

export class ToyTrainer implements StepRunner {
  weight = 8;
  momentum = 0;

  /** The batch's tokens are the points the weight is drawn to. */
  async step(microBatches: readonly Batch[], options: StepOptions & { readonly signal?: AbortSignal }): Promise<StepResult> {
    if (options.signal?.aborted) throw new PolypacaError("CANCELLED", "the step was cancelled");
    const points = microBatches.flatMap(({ inputIds }) => [...inputIds]);
    const gradient = points.reduce((sum, point) => sum + (this.weight - point), 0) / options.targetTokens;
    const loss = points.reduce((sum, point) => sum + 0.5 * (this.weight - point) ** 2, 0) / options.targetTokens;
    if (!Number.isFinite(gradient)) throw new PolypacaError("NOT_FINITE", `the gradient norm is ${gradient}`);
    this.momentum = 0.5 * this.momentum + gradient;
    this.weight -= options.learningRate * this.momentum;
    const timing = { seconds: 0.5, forwardSeconds: 0.2, backwardSeconds: 0.2, optimizerSeconds: 0.1 };
    return { loss, gradNorm: Math.abs(gradient), tokens: points.length, targetTokens: options.targetTokens, ...timing };
  }

  save(folder: string): void {
    writeFileSync(join(folder, stateFileName), JSON.stringify({ weight: this.weight, momentum: this.momentum }));
  }

  restore(folder: string): void {
    Object.assign(this, JSON.parse(readFileSync(join(folder, stateFileName), "utf8")) as object);
  }
}

export function toyBatch(points: readonly number[]): StepBatch {
  const batch: Batch = {
    inputIds: Int32Array.from(points),
    labels: Int32Array.from(points),
    sequenceLengths: Int32Array.of(points.length),
  };
  const records = points.map((_, index) => ({ file: "toy.json", line: index + 1 }));
  return { microBatches: [batch], targetTokens: points.length, records };
}

/** 20 steps in epochs of 5; evaluation every 4, checkpoint every 3. */
export function toyRun(trainer: ToyTrainer, parts: Partial<TrainingRun> = {}): TrainingRun {
  return {
    steps: 20,
    stepsPerEpoch: 5,
    evalEvery: 4,
    saveEvery: 3,
    earlyStopping: null,
    trainer,
    learningRate: (step) => 0.1 / (1 + step),
    batch: (step) => toyBatch([step % 5, (3 * step) % 7, 1]),
    evaluate: async () => (trainer.weight - 2) ** 2,
    record: () => {},
    save: async () => {},
    ...parts,
  };
}
