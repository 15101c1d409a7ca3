/** Merging an adapter into its base model, and proving that nothing was lost. */
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFolderAtomic } from "../checkpoint/atomic.js";
import { openCheckpoint } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import type { ComputeDType } from "../native/addon-types.js";
import { Model } from "../native/model.js";
import { templateFileName } from "../train/template-file.js";
import { assertFreeFolder } from "./assert-free-folder.js";

export interface MergeSettings {
  readonly model: string;
  readonly adapter: string;
  readonly out: string;
  readonly device?: string;
  /** Type of the merged weights; default: bf16 where the base is stored in bf16, else fp32. */
  readonly dtype?: ComputeDType;
  /** Compare the written model's logits with base and adapter. */
  readonly verify: boolean;
}

export interface MergeResult {
  readonly out: string;
  readonly parameters: number;
  readonly dtype: ComputeDType;
  readonly verification: MergeVerification | null;
}

export interface MergeVerification {
  readonly sequences: number;
  /** Largest absolute difference of logits over the largest absolute logit. */
  readonly maxRelativeError: number;
  /** L2 norm of the difference over that of the logits. */
  readonly relativeL2: number;
  readonly tolerance: number;
}

/**
 * What merging may cost in relative L2 of the logits: rounding of the sums in fp32; in bf16 every merged weight is rounded once
 * more to 8 bits.
 */
const tolerance: Readonly<Record<ComputeDType, number>> = { fp32: 1e-5, bf16: 3e-2 };

/**
 * Writes the base model with the adapter added in.
 *
 * @throws PolypacaError as `Model.load` and `loadAdapter` do; `VERIFY_FAILED` where the logits differ by more than the tolerance
 */
export async function mergeAdapter(settings: MergeSettings): Promise<MergeResult> {
  await assertFreeFolder(settings.out);
  const options = { device: settings.device ?? "auto", dtype: settings.dtype ?? (await storedType(settings.model)) };
  const model = await Model.load(settings.model, options);
  let expected: Float32Array[] = [];
  const inputs = settings.verify ? probeSequences(model.spec.vocabSize) : [];
  const { parameters } = model;
  try {
    await model.loadAdapter(settings.adapter);
    expected = await logitsOf(model, inputs);
    await model.merge();
    await writeFolderAtomic(settings.out, async (folder) => {
      await model.save(folder);
      await copyTemplate(settings.adapter, folder);
    });
  } finally {
    await model.dispose();
  }
  const verification = settings.verify ? await verifyMerged(settings.out, options, inputs, expected) : null;
  return { out: settings.out, parameters, dtype: options.dtype, verification };
}

/** The merged model is prompted as the adapter was. */
async function copyTemplate(adapter: string, folder: string): Promise<void> {
  const template = join(adapter, templateFileName);
  if (existsSync(template)) await copyFile(template, join(folder, templateFileName));
}

async function storedType(dir: string): Promise<ComputeDType> {
  const { sources } = await openCheckpoint(dir);
  return sources.every(({ dtype }) => dtype === "BF16") ? "bf16" : "fp32";
}

/** Token ids spread over the whole vocabulary: 4 sequences of 32. */
function probeSequences(vocabSize: number): Int32Array[] {
  const stride = 7919; // a prime, so that sequences do not repeat
  return Array.from({ length: 4 }, (_, s) => Int32Array.from({ length: 32 }, (_, t) => ((32 * s + t + 1) * stride) % vocabSize));
}

async function logitsOf(model: Model, inputs: readonly Int32Array[]): Promise<Float32Array[]> {
  const logits: Float32Array[] = [];
  for (const inputIds of inputs) logits.push(await model.logits(inputIds));
  return logits;
}

/** Reads the merged model back from disk: what is compared is what others will load. */
async function verifyMerged(
  out: string,
  options: { readonly device: string; readonly dtype: ComputeDType },
  inputs: readonly Int32Array[],
  expected: readonly Float32Array[],
): Promise<MergeVerification> {
  const merged = await Model.load(out, options);
  try {
    const actual = await logitsOf(merged, inputs);
    const errors = compareLogits(expected, actual);
    const verification = { sequences: inputs.length, ...errors, tolerance: tolerance[options.dtype] };
    if (!(errors.relativeL2 <= verification.tolerance)) throw failed(out, verification, options.dtype);
    return verification;
  } finally {
    await merged.dispose();
  }
}

function failed(out: string, { relativeL2, tolerance: limit }: MergeVerification, dtype: ComputeDType): PolypacaError {
  const figures = `logits differ from base and adapter by ${relativeL2.toExponential(2)} (relative L2), over ${limit} for ${dtype}`;
  const advice = dtype === "bf16" ? "Merge with --dtype fp32." : "Do not use it; check that the adapter was made for this base model.";
  return new PolypacaError("VERIFY_FAILED", `${out}: ${figures}. ${advice}`);
}

export function compareLogits(
  expected: readonly Float32Array[],
  actual: readonly Float32Array[],
): { readonly maxRelativeError: number; readonly relativeL2: number } {
  let maxError = 0;
  let maxLogit = 0;
  let squaredError = 0;
  let squares = 0;
  expected.forEach((row, sequence) => {
    row.forEach((logit, index) => {
      const error = Math.abs(logit - (actual[sequence]?.[index] ?? Number.NaN));
      if (error > maxError || Number.isNaN(error)) maxError = error;
      maxLogit = Math.max(maxLogit, Math.abs(logit));
      squaredError += error * error;
      squares += logit * logit;
    });
  });
  return { maxRelativeError: maxError / maxLogit, relativeL2: Math.sqrt(squaredError / squares) };
}
