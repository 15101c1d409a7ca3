/** What counts as work: the operations a training step must do, from the model's description alone. Utilisation is this over time. */
import type { DecoderSpec } from "../families/decoder-spec.js";
import { adapterParameterCount, matmulParameters } from "../families/parameters.js";

export type Method = "lora" | "fft";

export interface WorkSettings {
  readonly method: Method;
  /** Of the adapter; not read for FFT. */
  readonly rank: number;
  readonly targets: readonly string[];
  /** Keys that a token attends to, on average, itself included. */
  readonly meanAttendedLength: number;
  /** Share of tokens with a target: rows of the LM head without one are skipped, and what is skipped is no work. Default 1. */
  readonly scoredShare?: number;
}

/**
 * Floating-point operations per token of one training step (a multiply and an add are two).
 *
 * With P parameters that multiply activations (the LM head, tied or not, included; the embedding's look-up not):
 * FFT 6P (forward, gradient of the input, gradient of the weight: 2 each); LoRA 4P + 6 x adapter parameters (frozen weights get
 * no gradient). Both: 12 x layers x hidden x mean attended length for attention. Recomputation is not work.
 */
export function flopsPerToken(spec: DecoderSpec, settings: WorkSettings): number {
  const { method, rank, targets, meanAttendedLength, scoredShare = 1 } = settings;
  const head = spec.vocabSize * spec.hiddenSize;
  const parameters = matmulParameters(spec) - head + scoredShare * head;
  const attention = 12 * spec.layers * spec.heads * spec.headDim * meanAttendedLength;
  if (method === "fft") return 6 * parameters + attention;
  return 4 * parameters + 6 * adapterParameterCount(spec, { rank, targets }) + attention;
}

/** Causal attention within each sequence: token t of one sees t + 1 keys. The mean over all tokens; of one length T, (T + 1) / 2. */
export function causalAttendedLength(sequenceLengths: readonly number[]): number {
  const tokens = sequenceLengths.reduce((sum, length) => sum + length, 0);
  return attendedPairs(sequenceLengths) / tokens;
}

/** Pairs of a query and a key that it attends to. */
export function attendedPairs(sequenceLengths: readonly number[]): number {
  return sequenceLengths.reduce((sum, length) => sum + (length * (length + 1)) / 2, 0);
}
