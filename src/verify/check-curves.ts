/** Training curves: losses and gradient norms of every step, and what the weights came to. */

import type { DecoderSpec } from "../families/decoder-spec.js";
import type { NativeModel, StepResult } from "../native/addon-types.js";
import { countTargets, pack, type ReferenceCurve, type ReferenceTraining } from "./case-files.js";
import { type Expectations, withPrefix } from "./check-outputs.js";
import { l2, maxAbsoluteError, relativeError } from "./compare.js";
import { hasZeroGradient } from "./zero-gradients.js";

export interface CurveCheck {
  /** `fft.wd0`, `lora.wd0.1`, … */
  readonly name: string;
  readonly curve: ReferenceCurve;
  readonly training: ReferenceTraining;
  /** Of train.safetensors. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  readonly spec: DecoderSpec;
  /** Parameters some of whose gradients are zero by mathematics: their norms are not compared. */
  readonly noisy: ReadonlySet<string>;
}

/** Trains a freshly loaded model (with its adapter, for lora) along one curve. It is changed. */
export async function checkCurve(model: NativeModel, check: CurveCheck, expectations: Expectations): Promise<void> {
  await runCurve(model, check, expectations);
  await checkTrainedValues(model, check, expectations);
  await checkTrainedNorms(model, check, expectations);
}

async function runCurve(model: NativeModel, check: CurveCheck, expectations: Expectations): Promise<void> {
  const { name, curve, training } = check;
  const { optimizer, setup, stream } = training;
  const trainer = await model.createTrainer({
    method: name.startsWith("lora") ? "lora" : "fft",
    beta1: optimizer.beta1,
    beta2: optimizer.beta2,
    epsilon: optimizer.eps,
    weightDecay: curve.weight_decay,
    maxGradNorm: setup.max_grad_norm,
    recompute: "none",
    microBatchTokens: Math.max(...stream.flatMap(({ input_ids: inputIds }) => inputIds.map((sequence) => sequence.length))),
    seed: 0,
  });
  try {
    for (const [step, { input_ids: inputIds, labels }] of stream.entries()) {
      const microBatches = inputIds.map((sequence, i) => pack([sequence], [labels[i] ?? []]));
      const learningRate = curve.lr[step] ?? Number.NaN;
      checkStep(await trainer.step(microBatches, { learningRate, targetTokens: countTargets(labels) }), step, check, expectations);
    }
  } finally {
    await trainer.dispose();
  }
}

function checkStep({ loss, gradNorm }: StepResult, step: number, { name, curve }: CurveCheck, { limits, findings }: Expectations): void {
  const { measure, limit } = limits.curveLoss;
  for (const field of ["loss", "loss_float64"] as const) {
    const expected = curve[field][step] ?? Number.NaN;
    const relative = relativeError(loss, expected);
    findings.measured("curve", relative);
    findings.within(
      `${name}, ${field} of step ${step}: ${measure} error`,
      measure === "absolute" ? Math.abs(loss - expected) : relative,
      limit,
    );
  }
  for (const field of ["grad_norm", "grad_norm_float64"] as const) {
    findings.within(
      `${name}, ${field} of step ${step}: relative error`,
      relativeError(gradNorm, curve[field][step] ?? Number.NaN),
      limits.gradNorm,
    );
  }
}

async function checkTrainedValues(
  model: NativeModel,
  { name, tensors, spec }: CurveCheck,
  { limits, findings }: Expectations,
): Promise<void> {
  const limit = name.startsWith("lora") ? limits.trainedAdapter : limits.trainedWeight;
  if (limit === null) return;
  for (const [tensor, expected] of withPrefix(tensors, `${name}.final.`)) {
    const { data } = await model.read(tensor);
    findings.within(
      `${name}, trained ${tensor}: largest absolute error`,
      maxAbsoluteError(data, expected, hasZeroGradient(spec, tensor)),
      limit,
    );
  }
}

async function checkTrainedNorms(
  model: NativeModel,
  { name, curve, noisy }: CurveCheck,
  { limits, findings }: Expectations,
): Promise<void> {
  if (limits.trainedNorm === null) return;
  for (const [tensor, expected] of Object.entries(curve.final)) {
    if (noisy.has(tensor)) continue;
    const norm = l2((await model.read(tensor)).data);
    for (const field of ["l2", "l2_float64"] as const) {
      findings.within(`${name}, ${field} of trained ${tensor}: relative error`, relativeError(norm, expected[field]), limits.trainedNorm);
    }
  }
}
