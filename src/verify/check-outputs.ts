/** Logits, losses and gradients of one model, or of one with an adapter. */
import type { DecoderSpec } from "../families/decoder-spec.js";
import type { Batch, NamedTensor, NativeModel } from "../native/addon-types.js";
import { countTargets, pack, type ReferenceCase } from "./case-files.js";
import { l2, maxAbsolute, maxAbsoluteError, relativeError, relativeL2, type Squares, squares } from "./compare.js";
import type { Findings } from "./findings.js";
import type { Limits } from "./limits.js";
import { hasZeroGradient } from "./zero-gradients.js";

export interface Expectations {
  readonly limits: Limits;
  readonly findings: Findings;
}

/**
 * Compares logits of sequences that the reference ran one by one; here they are packed, so that packing is checked too.
 *
 * @param expected one tensor [tokens, vocab] per sequence
 */
export async function checkLogits(
  model: NativeModel,
  batch: Batch,
  expected: readonly Float32Array[],
  label: string,
  { limits, findings }: Expectations,
): Promise<void> {
  const logits = await model.logits(batch);
  const parts: Squares[] = [];
  let at = 0;
  let worst = 0;
  for (const sequence of expected) {
    const actual = logits.subarray(at, at + sequence.length);
    at += sequence.length;
    worst = Math.max(worst, maxAbsoluteError(actual, sequence));
    parts.push(squares(actual, sequence));
  }
  if (at !== logits.length) findings.fail(`${label}: ${logits.length} values, expected ${at}`);
  const isAbsolute = limits.logits.measure === "absolute";
  const relative = relativeL2(parts);
  findings.measured("logits", isAbsolute ? worst / Math.max(...expected.map(maxAbsolute)) : relative);
  findings.within(`${label}: ${isAbsolute ? "largest absolute" : "relative L2"} error`, isAbsolute ? worst : relative, limits.logits.limit);
}

/** Compares the mean loss of a batch with expected values, each under its name. */
export async function checkLoss(
  model: NativeModel,
  batch: Batch,
  expected: Readonly<Record<string, number>>,
  { limits, findings }: Expectations,
  limit: number | null = limits.loss,
): Promise<void> {
  const { lossSum, targetTokens } = await model.loss(batch);
  for (const [name, value] of Object.entries(expected))
    findings.within(`${name}: absolute error`, Math.abs(lossSum / targetTokens - value), limit);
}

/** Losses of the whole batch and of each sequence alone, under both kinds of labels. */
export async function checkLosses(model: NativeModel, reference: ReferenceCase, expectations: Expectations): Promise<void> {
  const { limits, findings } = expectations;
  for (const kind of ["all", "response"] as const) {
    const labels = reference[`labels_${kind}`];
    const targets = countTargets(labels);
    const expectedTargets = reference[`n_targets_${kind}`];
    if (targets !== expectedTargets) findings.fail(`labels_${kind} have ${targets} targets, n_targets_${kind} says ${expectedTargets}`);
    await checkLoss(model, pack(reference.input_ids, labels), twins(reference, `loss_${kind}`), expectations);
    for (const [i, sum] of reference[`loss_sum_${kind}_per_sequence`].entries()) {
      const alone = [labels[i] ?? []];
      const expected = { [`loss_${kind} of sequence ${i} alone`]: sum / countTargets(alone) };
      await checkLoss(model, pack([reference.input_ids[i] ?? []], alone), expected, expectations, limits.sequenceLoss);
    }
  }
}

/** A value that the reference computed in fp32, and again in float64. */
export function twins<Name extends string>(
  values: Readonly<Record<Name | `${Name}_float64`, number>>,
  name: Name,
  label: string = name,
): Record<string, number> {
  return { [label]: values[name], [`${label}_float64`]: values[`${name}_float64`] };
}

/** Which gradients are compared, and how the report names them. */
export interface GradientReference {
  readonly quantity: "gradients" | "loraGradients";
  /** By the tensors' names. */
  readonly expected: ReadonlyMap<string, Float32Array>;
  readonly spec: DecoderSpec;
  /** Global L2, by the names of the expected values. */
  readonly gradNorm: Readonly<Record<string, number>>;
}

/** Compares every gradient of the mean loss, one by one and together; a gradient too many or too few fails. */
export function checkGradients(gradients: readonly NamedTensor[], reference: GradientReference, { limits, findings }: Expectations): void {
  const actual = new Map(gradients.map(({ name, data }) => [name, data]));
  const parts: Squares[] = [];
  for (const [name, expected] of reference.expected) {
    const data = actual.get(name);
    if (!data) {
      findings.fail(`gradient of ${name}: there is none`);
      continue;
    }
    const isZero = hasZeroGradient(reference.spec, name);
    const part = squares(data, expected, isZero);
    parts.push(part);
    findings.measured(reference.quantity, relativeL2([part]));
    findings.within(`gradient of ${name}: relative L2 error`, relativeL2([part]), limits.gradient);
    const noise = maxAbsolute(data.filter((_, index) => isZero(index)));
    findings.within(`gradient of ${name}: elements that are zero by mathematics reach`, noise, limits.zeroGradient);
  }
  const surplus = gradients.find(({ name }) => !reference.expected.has(name));
  if (surplus) findings.fail(`gradient of ${surplus.name}: the reference has none`);
  findings.within(
    `all ${reference.quantity} together: relative L2 error`,
    relativeL2(parts),
    reference.quantity === "loraGradients" ? limits.allAdapterGradients : limits.allGradients,
  );
  const norm = Math.hypot(...gradients.map(({ data }) => l2(data)));
  for (const [name, expected] of Object.entries(reference.gradNorm))
    findings.within(`${name}: relative error`, relativeError(norm, expected), limits.gradNorm);
}

/** The tensors `<prefix><name>` of a reference file, by name. */
export function withPrefix(tensors: ReadonlyMap<string, Float32Array>, prefix: string): Map<string, Float32Array> {
  return new Map([...tensors].flatMap(([name, data]) => (name.startsWith(prefix) ? [[name.slice(prefix.length), data] as const] : [])));
}

/** `<prefix>0`, `<prefix>1`, … of a reference file. */
export function numbered(tensors: ReadonlyMap<string, Float32Array>, prefix: string, count: number): Float32Array[] {
  return Array.from({ length: count }, (_, i) => tensors.get(`${prefix}${i}`) ?? new Float32Array(0));
}
