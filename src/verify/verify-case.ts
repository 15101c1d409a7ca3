/** Runs a reference case, or a variant of one, against this build and back end. */
import { basename, join, resolve } from "node:path";
import { readAdapterFolder } from "../checkpoint/adapter.js";
import { type Checkpoint, openCheckpoint } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import type { Addon, ComputeDType, LoraOptions, NativeModel } from "../native/addon-types.js";
import { hasFile, pack, type ReferenceCase, readCase, readGeneration, readTensors, readTraining, readVariant } from "./case-files.js";
import { checkCurve } from "./check-curves.js";
import { checkGeneration } from "./check-generation.js";
import { checkGradients, checkLogits, checkLoss, checkLosses, type Expectations, numbered, twins, withPrefix } from "./check-outputs.js";
import { Findings } from "./findings.js";
import { limitsOf } from "./limits.js";

export interface VerifyOptions {
  readonly device: string;
  readonly dtype: ComputeDType;
  /** Default false. */
  readonly allowOvercommit?: boolean;
  /** Called before each part of a case, for progress. */
  readonly onPart?: (part: string) => void;
}

export interface CaseReport {
  /** Name of the case's folder. */
  readonly case: string;
  readonly passed: boolean;
  /**
   * The largest found; null where the case has nothing of the kind. `logits`: largest absolute error over the largest logit in
   * fp32, relative L2 in bf16; gradients: relative L2 of the worst tensor; `curve`: relative error of the worst step's loss.
   */
  readonly maxRelativeError: {
    readonly logits: number | null;
    readonly gradients: number | null;
    readonly loraGradients: number | null;
    readonly curve: number | null;
  };
  readonly failures: readonly string[];
  readonly notes: readonly string[];
}

/**
 * Compares this build with one folder of the layout in test/goldens/README.md: a case (case.json) or a variant (expect.json, whose
 * base case must stand two folders above it). Damaged or contradictory files are failures of the case.
 *
 * @throws PolypacaError `NOT_FOUND` where the folder is neither; `CANCELLED`
 */
export async function verifyCase(addon: Addon, caseDir: string, options: VerifyOptions): Promise<CaseReport> {
  const isVariant = hasFile(caseDir, "expect.json");
  if (!isVariant && !hasFile(caseDir, "case.json")) {
    throw new PolypacaError(
      "NOT_FOUND",
      `${caseDir}: neither case.json nor expect.json. Expected a folder of reference values as test/goldens has them.`,
    );
  }
  const findings = new Findings();
  try {
    const run = new CaseRun(addon, caseDir, options, await openCheckpoint(caseDir), findings);
    await (isVariant ? run.variant() : run.full());
  } catch (cause) {
    const error = PolypacaError.from(cause, { during: caseDir });
    if (error.code === "CANCELLED") throw error;
    findings.fail(`${error.code}: ${error.message}`);
  }
  return {
    case: basename(resolve(caseDir)),
    passed: findings.failures.length === 0,
    maxRelativeError: {
      logits: findings.largest("logits"),
      gradients: findings.largest("gradients"),
      loraGradients: findings.largest("loraGradients"),
      curve: findings.largest("curve"),
    },
    failures: findings.failures,
    notes: findings.notes,
  };
}

class CaseRun {
  readonly #addon: Addon;
  readonly #dir: string;
  readonly #options: VerifyOptions;
  readonly #checkpoint: Checkpoint;
  readonly #expectations: Expectations;

  constructor(addon: Addon, dir: string, options: VerifyOptions, checkpoint: Checkpoint, findings: Findings) {
    this.#addon = addon;
    this.#dir = dir;
    this.#options = options;
    this.#checkpoint = checkpoint;
    this.#expectations = { limits: limitsOf[options.dtype], findings };
  }

  async full(): Promise<void> {
    const reference = await readCase(this.#dir);
    const tensors = await readTensors(join(this.#dir, "case.safetensors"));
    await this.#base(reference, tensors);
    await this.#adapter(reference, tensors);
    await this.#curves(reference);
    await this.#generation();
  }

  /** The same values in other files: losses, and the logits of sequence 2. */
  async variant(): Promise<void> {
    const expected = await readVariant(this.#dir);
    const baseDir = join(resolve(this.#dir), "../..", expected.base);
    if (!hasFile(baseDir, "case.json"))
      throw new PolypacaError("NOT_FOUND", `${baseDir}: this variant's base case is missing; its inputs are there.`);
    const reference = await readCase(baseDir);
    const tensors = await readTensors(join(this.#dir, "expect.safetensors"));
    await this.#withModel("variant", async (model) => {
      for (const kind of ["all", "response"] as const) {
        const name = `loss_${kind}` as const;
        await checkLoss(model, pack(reference.input_ids, reference[`labels_${kind}`]), { [name]: expected[name] }, this.#expectations);
      }
      const last = [reference.input_ids[2] ?? []];
      await checkLogits(model, pack(last, last), [tensors.get("logits.2") ?? new Float32Array(0)], "logits.2", this.#expectations);
    });
  }

  async #base(reference: ReferenceCase, tensors: ReadonlyMap<string, Float32Array>): Promise<void> {
    const { input_ids: inputIds, labels_response: labels } = reference;
    await this.#withModel("base model", async (model) => {
      const batch = pack(inputIds, labels);
      await checkLogits(model, batch, numbered(tensors, "logits.", inputIds.length), "logits", this.#expectations);
      await checkLosses(model, reference, this.#expectations);
      const expected = withPrefix(tensors, "grad.");
      const gradNorm = twins(reference, "grad_norm_response");
      checkGradients(
        await model.gradients(batch),
        { quantity: "gradients", expected, spec: this.#checkpoint.spec, gradNorm },
        this.#expectations,
      );
    });
  }

  async #adapter(reference: ReferenceCase, tensors: ReadonlyMap<string, Float32Array>): Promise<void> {
    const { lora, input_ids: inputIds } = reference;
    if (!lora) return this.#expectations.findings.note("the case has no adapter");
    const expectations = this.#expectations;
    const all = pack(inputIds, reference.labels_all);
    const response = pack(inputIds, reference.labels_response);
    await this.#withModel("adapter", async (model) => {
      const { rank, scaling } = await this.#loadAdapter(model);
      if (rank !== lora.r || scaling !== lora.scaling) {
        expectations.findings.fail(`the adapter has rank ${rank} and scaling ${scaling}, the case says ${lora.r} and ${lora.scaling}`);
      }
      await checkLogits(model, response, numbered(tensors, "lora.logits.", inputIds.length), "lora.logits", expectations);
      await checkLoss(model, all, twins(lora, "loss_all", "lora.loss_all"), expectations);
      await checkLoss(model, response, twins(lora, "loss_response", "lora.loss_response"), expectations);
      const expected = withPrefix(tensors, "lora.grad.");
      const gradNorm = { "lora.grad_norm_response": lora.grad_norm_response };
      checkGradients(
        await model.gradients(response),
        { quantity: "loraGradients", expected, spec: this.#checkpoint.spec, gradNorm },
        expectations,
      );
      await model.merge();
      await checkLoss(model, all, { "lora.merged_loss_all": lora.merged_loss_all }, expectations);
      await checkLoss(model, response, { "lora.merged_loss_response": lora.merged_loss_response }, expectations);
    });
  }

  async #curves(reference: ReferenceCase): Promise<void> {
    if (!hasFile(this.#dir, "train.json")) return this.#expectations.findings.note("the case has no training curves");
    const training = await readTraining(this.#dir);
    const tensors = await readTensors(join(this.#dir, "train.safetensors"));
    const noisy = new Set(Object.keys(reference.zero_by_mathematics));
    for (const [name, curve] of Object.entries(training.curves)) {
      await this.#withModel(`curve ${name}`, async (model) => {
        if (name.startsWith("lora")) await this.#loadAdapter(model);
        await checkCurve(model, { name, curve, training, tensors, spec: this.#checkpoint.spec, noisy }, this.#expectations);
      });
    }
  }

  async #generation(): Promise<void> {
    if (!hasFile(this.#dir, "generate.json")) return this.#expectations.findings.note("the case has no generations");
    const cases = await readGeneration(this.#dir);
    await this.#withModel("generation", (model) => checkGeneration(model, cases, this.#expectations));
  }

  async #loadAdapter(model: NativeModel): Promise<LoraOptions> {
    const { lora, sources } = await readAdapterFolder(join(this.#dir, "adapter"));
    await model.loadAdapter(lora, sources, "reference");
    return lora;
  }

  /** A model of its own for each part: training and merging change the weights. */
  async #withModel(part: string, use: (model: NativeModel) => Promise<void>): Promise<void> {
    const { device, dtype, allowOvercommit = false, onPart } = this.#options;
    onPart?.(part);
    const { spec, sources } = this.#checkpoint;
    const model = await this.#addon.loadModel(spec, sources, { device, dtype, allowOvercommit });
    try {
      await use(model);
    } finally {
      await model.dispose();
    }
  }
}
