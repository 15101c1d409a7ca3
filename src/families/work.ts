/** What counts as work: the operations a training step must do, from the model's description alone. Utilisation is this over time. */
import type { DecoderSpec } from "./decoder-spec.js";
import { adapterParameterCount, matmulParameters } from "./parameters.js";

export type Method = "lora" | "fft";

export interface TuningMethod {
  readonly method: Method;
  /** Of the adapter; not read for FFT. */
  readonly rank: number;
  readonly targets: readonly string[];
}

export interface WorkSettings extends TuningMethod {
  /** Keys that a token attends to, on average, itself included. */
  readonly meanAttendedLength: number;
  /** Share of tokens with a target: rows of the LM head without one are skipped, and what is skipped is no work. Default 1. */
  readonly scoredShare?: number;
}

/** Floating-point operations of training (forward and backward), each a whole number; a multiply and an add are two. */
export interface TrainingWork {
  readonly perToken: number;
  /** On top, for a token that has a target: its row of the LM head. */
  readonly perTargetToken: number;
  /** For each pair of a query and a key that it attends to, over all layers and heads. */
  readonly perAttendedPair: number;
}

/**
 * With P parameters that multiply activations (without the LM head, which `perTargetToken` has, tied or not; the embedding's look-up
 * is none): FFT 6P per token (forward, gradient of the input, gradient of the weight: 2 each, as Kaplan et al. 2020,
 * arXiv:2001.08361, section 2.1, count them); LoRA 4P + 6 x adapter parameters, since frozen weights get no gradient. Both:
 * 12 x layers x hidden per attended pair. Recomputation is not work.
 */
export function trainingWork(spec: DecoderSpec, { method, rank, targets }: TuningMethod): TrainingWork {
  const head = spec.vocabSize * spec.hiddenSize;
  const blocks = matmulParameters(spec) - head;
  const perAttendedPair = 12 * spec.layers * spec.heads * spec.headDim;
  if (method === "fft") return { perToken: 6 * blocks, perTargetToken: 6 * head, perAttendedPair };
  return { perToken: 4 * blocks + 6 * adapterParameterCount(spec, { rank, targets }), perTargetToken: 4 * head, perAttendedPair };
}

/** Of a forward pass alone, as evaluating the validation data takes: 2 per parameter, and 4 of the 12 per attended pair. */
export function forwardWork(spec: DecoderSpec, { method, rank, targets }: TuningMethod): TrainingWork {
  const head = spec.vocabSize * spec.hiddenSize;
  const adapter = method === "lora" ? adapterParameterCount(spec, { rank, targets }) : 0;
  return {
    perToken: 2 * (matmulParameters(spec) - head + adapter),
    perTargetToken: 2 * head,
    perAttendedPair: 4 * spec.layers * spec.heads * spec.headDim,
  };
}

/** Floating-point operations per token of one training step: see {@link trainingWork}. */
export function flopsPerToken(spec: DecoderSpec, settings: WorkSettings): number {
  const { meanAttendedLength, scoredShare = 1 } = settings;
  const { perToken, perTargetToken, perAttendedPair } = trainingWork(spec, settings);
  return perToken + scoredShare * perTargetToken + meanAttendedLength * perAttendedPair;
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
