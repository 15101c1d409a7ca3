import { PolypacaError } from "../errors.js";
import type { Batch } from "../native/addon-types.js";
import type { Example } from "./tokenize.js";

/** A packed micro-batch of N tokens in S sequences. */
export interface PackedBatch extends Batch {
  /** [S] index of each sequence in the step's batch, before packing: the dropout key. */
  readonly exampleIndices: Int32Array;
}

export interface PackedStep {
  readonly microBatches: readonly PackedBatch[];
  /** Of all micro-batches: what the step's loss is divided by. */
  readonly targetTokens: number;
  readonly tokens: number;
}

type Packable = Pick<Example, "inputIds" | "labels" | "targetTokens" | "place">;

/**
 * Packs the examples of one step end to end into micro-batches, by first-fit decreasing: the longest first, each into the first
 * micro-batch with room. Equal lengths keep their order, so the outcome is a function of the lengths.
 *
 * @param microBatchTokens most tokens of a micro-batch
 * @param packing false: a micro-batch per example, in order (no padding either way)
 * @throws PolypacaError `INVALID_ARGUMENT` for an example longer than a micro-batch, naming it
 */
export function packStep(examples: readonly Packable[], microBatchTokens: number, { packing = true } = {}): PackedStep {
  const long = examples.find(({ inputIds }) => inputIds.length > microBatchTokens);
  if (long) {
    const { file, line } = long.place;
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `${file} line ${line}: the example has ${long.inputIds.length} tokens, --micro-batch-tokens is ${microBatchTokens}. Raise it, or lower --cutoff.`,
    );
  }
  const lengths = examples.map(({ inputIds }) => inputIds.length);
  const bins = packing ? firstFitDecreasing(lengths, microBatchTokens) : lengths.map((_, index) => [index]);
  return {
    microBatches: bins.map((indices) => layEndToEnd(examples, indices)),
    targetTokens: examples.reduce((sum, { targetTokens }) => sum + targetTokens, 0),
    tokens: lengths.reduce((sum, length) => sum + length, 0),
  };
}

/** Indices by bin; within a bin in ascending order. */
function firstFitDecreasing(lengths: readonly number[], capacity: number): number[][] {
  const bins: { readonly indices: number[]; room: number }[] = [];
  const longestFirst = lengths.map((_, index) => index).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  for (const index of longestFirst) {
    const length = lengths[index]!;
    const bin = bins.find(({ room }) => room >= length);
    if (bin) {
      bin.indices.push(index);
      bin.room -= length;
    } else {
      bins.push({ indices: [index], room: capacity - length });
    }
  }
  return bins.map(({ indices }) => indices.sort((a, b) => a - b));
}

function layEndToEnd(examples: readonly Packable[], indices: readonly number[]): PackedBatch {
  const sequenceLengths = Int32Array.from(indices, (index) => examples[index]!.inputIds.length);
  const tokens = sequenceLengths.reduce((sum, length) => sum + length, 0);
  const inputIds = new Int32Array(tokens);
  const labels = new Int32Array(tokens);
  let at = 0;
  for (const index of indices) {
    inputIds.set(examples[index]!.inputIds, at);
    labels.set(examples[index]!.labels, at);
    at += examples[index]!.inputIds.length;
  }
  return { inputIds, labels, sequenceLengths, exampleIndices: Int32Array.from(indices) };
}
