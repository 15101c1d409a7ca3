/** The real model under training: what a session needs, on native model and trainer. */
import { type Checkpoint, writeModelFolder } from "../checkpoint/hf-folder.js";
import { adapterFolderBytes, modelFolderBytes } from "../checkpoint/sizes.js";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { adapterTensors, elementCount, expectedTensors, parameterCount } from "../families/parameters.js";
import type { Batch, ComputeDType, LoraOptions, Optimizer, StepOptions, StepResult } from "../native/addon-types.js";
import { loadAddon } from "../native/load.js";
import { Model } from "../native/model.js";
import { Trainer } from "../native/trainer.js";
import { adamW } from "./presets.js";
import type { Trainee } from "./session.js";
import type { TrainSettings } from "./settings.js";

export interface TraineeOptions {
  /** The base model. */
  readonly checkpoint: Checkpoint;
  readonly device: string;
  readonly dtype: ComputeDType;
  /** null: full-parameter fine-tuning. */
  readonly lora: LoraOptions | null;
  readonly microBatchTokens: number;
  /** Packed; empty: no validation data. */
  readonly validation: readonly Batch[];
}

export class NativeTrainee implements Trainee {
  readonly validationLoss: Trainee["validationLoss"];
  readonly #model: Model;
  readonly #trainer: Trainer;
  readonly #base: Checkpoint;
  readonly #device: string;

  private constructor(model: Model, trainer: Trainer, { checkpoint, device, validation }: TraineeOptions) {
    this.#model = model;
    this.#trainer = trainer;
    this.#base = checkpoint;
    this.#device = device;
    this.validationLoss = validation.length === 0 ? null : (signal) => meanLoss(model, validation, signal);
  }

  /**
   * Loads the base model with a fresh adapter (LoRA) or as it is (FFT); or, from a checkpoint's folder, the weights and optimiser
   * state saved there. Takes all memory of the run.
   *
   * @throws PolypacaError as `Model.load`, `Model.addLora`, `Trainer.prepare` and `Trainer.restore` do
   */
  static async load(settings: TrainSettings, options: TraineeOptions, savedIn: string | null): Promise<NativeTrainee> {
    const { device, dtype, lora, microBatchTokens } = options;
    const { weightDecay, maxGradNorm, recompute, seed, method, optimizer, allowOvercommit } = settings;
    const model = await Model.load(lora === null ? (savedIn ?? settings.model) : settings.model, { device, dtype, allowOvercommit });
    try {
      if (lora !== null) await (savedIn === null ? model.addLora(lora) : model.loadAdapter(savedIn));
      const trainer = new Trainer(model, { ...adamW, method, optimizer, weightDecay, maxGradNorm, recompute, seed, microBatchTokens });
      await trainer.prepare();
      if (savedIn !== null) await trainer.restore(savedIn);
      return new NativeTrainee(model, trainer, options);
    } catch (cause) {
      await model.dispose();
      throw cause;
    }
  }

  step(microBatches: readonly Batch[], options: StepOptions & { readonly signal?: AbortSignal }): Promise<StepResult> {
    return this.#trainer.step(microBatches, options);
  }

  async saveWeights(folder: string): Promise<void> {
    if (this.#model.lora) return await this.#model.saveAdapter(folder);
    // Tokenizer and configuration come from the base model: the checkpoint a run was resumed from may have been pruned.
    const { native, dtype } = this.#model;
    await writeModelFolder(native, folder, { config: this.#base.config, dtype, source: this.#base });
  }

  saveState(folder: string): Promise<void> {
    return this.#trainer.save(folder);
  }

  peakMemoryBytes(): number {
    return loadAddon().memoryUsage(this.#device).peakResident;
  }

  async dispose(): Promise<void> {
    await this.#trainer.dispose();
    await this.#model.dispose();
  }
}

/**
 * Mean cross-entropy per target token over all batches together (not a mean of means), dropout off.
 *
 * @throws PolypacaError `CANCELLED` between batches
 */
async function meanLoss(model: Model, batches: readonly Batch[], signal: AbortSignal | undefined): Promise<number> {
  let lossSum = 0;
  let targets = 0;
  for (const batch of batches) {
    if (signal?.aborted) throw new PolypacaError("CANCELLED", "the evaluation was cancelled");
    const { loss, targetTokens } = await model.loss(batch);
    if (targetTokens === 0) continue;
    lossSum += loss * targetTokens;
    targets += targetTokens;
  }
  return lossSum / targets;
}

/** Bytes of a checkpoint: weights as inference needs them, and Adam's moments (with fp32 masters where the weights are bf16). */
export function checkpointSizes(
  spec: DecoderSpec,
  { lora, dtype, optimizer }: Pick<TraineeOptions, "lora" | "dtype"> & { readonly optimizer: Optimizer },
): { readonly weights: number; readonly state: number } {
  if (lora !== null) return { weights: adapterFolderBytes(spec, lora), state: momentBytes(adapterTensors(spec, lora), optimizer) };
  const masters = dtype === "bf16" ? 4 * parameterCount(spec) : 0;
  return { weights: modelFolderBytes(spec, dtype), state: masters + momentBytes(expectedTensors(spec), optimizer) };
}

/** As native/train/quantized_moments.h lays them out. */
function momentBytes(tensors: readonly { readonly shape: readonly number[] }[], optimizer: Optimizer): number {
  const [smallest, block] = [4096, 256];
  return tensors.reduce((sum, { shape }) => {
    const count = elementCount(shape);
    return sum + (optimizer === "adamw8bit" && count >= smallest ? 2 * (count + 4 * Math.ceil(count / block)) : 2 * 4 * count);
  }, 0);
}
