import { join } from "node:path";
import { readSafetensorsHeader, safetensorsHeader } from "../checkpoint/safetensors.js";
import { asStateSource, elementBytes } from "../checkpoint/stored-tensor.js";
import { PolypacaError } from "../errors.js";
import { elementCount } from "../families/parameters.js";
import { onAbort } from "./abort.js";
import type { Batch, MemoryPlan, NativeTrainer, StepOptions, StepResult, TrainerOptions } from "./addon-types.js";
import { type Model, wrapErrors } from "./model.js";

export type TrainerSettings = Partial<Omit<TrainerOptions, "method" | "microBatchTokens">> &
  Pick<TrainerOptions, "microBatchTokens"> & { readonly method?: "fft" | "lora" };

const stateFile = "state.safetensors";

/** AdamW over everything that is trained: all weights, or the adapter where the model has one. Gradients are clipped by their global norm. */
export class Trainer {
  readonly #model: Model;
  readonly #options: TrainerOptions;
  #native: NativeTrainer | undefined;
  #disposed = false;

  /**
   * Defaults: method by the model (an adapter: lora), optimizer adamw, 0.9, 0.999, 1e-8, weight decay 0, clipping at 1, no recomputation, seed 0.
   * Memory is taken at the first call of `prepare` or `step`.
   */
  constructor(model: Model, settings: TrainerSettings) {
    this.#model = model;
    this.#options = {
      method: model.lora ? "lora" : "fft",
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
      maxGradNorm: 1,
      recompute: "none",
      seed: 0,
      ...settings,
    };
  }

  /** Takes and commits the memory of the whole run. @throws PolypacaError `OUT_OF_MEMORY` with figures */
  async prepare(): Promise<MemoryPlan> {
    return (await this.#live()).memory;
  }

  async stepsTaken(): Promise<number> {
    return (await this.#live()).stepsTaken;
  }

  /**
   * Runs one optimizer step: forward and backward per micro batch, clip, update.
   *
   * @param microBatches packed; together they are the step's examples
   * @param options `learningRate`; `targetTokens` over all micro-batches; `signal` drops the step whole between layers
   * @returns `loss` in nats per target token over the whole step; `gradNorm` (L2) before clipping
   * @throws PolypacaError `SHAPE_MISMATCH`, `OUT_OF_MEMORY`, `NOT_FINITE`, `CANCELLED` (weights unchanged), `DISPOSED`
   */
  async step(microBatches: readonly Batch[], options: StepOptions & { readonly signal?: AbortSignal }): Promise<StepResult> {
    const native = await this.#live();
    let release = (): void => {};
    try {
      const running = native.step(microBatches, { learningRate: options.learningRate, targetTokens: options.targetTokens });
      release = onAbort(options.signal, () => native.requestStop()); // after queueing, so the stop meets this step
      return await running;
    } catch (cause) {
      throw PolypacaError.from(cause, { during: "training step" });
    } finally {
      release();
    }
  }

  /** Bytes of `state.safetensors`, header aside. */
  async stateBytes(): Promise<number> {
    const tensors = (await this.#live()).tensors();
    return tensors.reduce((sum, { shape, dtype }) => sum + elementBytes[dtype]! * elementCount(shape), 0);
  }

  /** Writes masters and moments to `state.safetensors` in an existing folder. */
  async save(dir: string): Promise<void> {
    const native = await this.#live();
    const infos = native.tensors();
    const { header } = safetensorsHeader(infos, { format: "pt", steps: String(native.stepsTaken) });
    await wrapErrors(native.write({ path: join(dir, stateFile), header, tensors: infos.map(({ name, dtype }) => ({ name, dtype })) }));
  }

  /** Restores what `save` wrote: masters, moments and the step counter. */
  async restore(dir: string): Promise<void> {
    const native = await this.#live();
    const { tensors, metadata } = await readSafetensorsHeader(join(dir, stateFile));
    const steps = Number(metadata.steps);
    if (!Number.isSafeInteger(steps) || steps < 0) {
      throw new PolypacaError(
        "BAD_CHECKPOINT",
        `${join(dir, stateFile)}: its metadata has no step counter. It was not written by polypaca.`,
      );
    }
    await wrapErrors(native.restore(tensors.map(asStateSource), steps));
  }

  /** Frees gradients and moments; the model stays. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#native?.dispose();
    this.#native = undefined;
  }

  async #live(): Promise<NativeTrainer> {
    if (this.#disposed) throw new PolypacaError("DISPOSED", "this trainer was disposed of");
    this.#native ??= await wrapErrors(this.#model.native.createTrainer(this.#options));
    return this.#native;
  }
}
