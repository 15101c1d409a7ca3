/**
 * `--kernels`: every kernel of a training step on its own, at a model's shapes. A kernel's least time is what its operations take at
 * the GEMM peak or its bytes at the memory bandwidth, whichever is longer (the roofline); the figure shown is that over its real time.
 * Bytes are counted once per operand, so what stays in a cache between calls may exceed 100% of the bandwidth.
 */
import type { DecoderSpec } from "../families/decoder-spec.js";
import { attendedPairs } from "../families/work.js";
import type { Addon, ComputeDType, KernelShape } from "../native/addon-types.js";
import { type BenchCase, type BenchShape, cutIntoSequences, stepTokens } from "./cases.js";

export interface KernelReport {
  /** GB/s of a[i] = b[i] + s c[i] over arrays that fit no cache, all threads; bytes by STREAM's rule (three per element). */
  readonly bandwidth: number;
  readonly kernels: readonly KernelResult[];
}

export interface KernelResult {
  readonly arch: string;
  /** Member of native/backend/backend.h, and where in the model. */
  readonly kernel: string;
  readonly dtype: ComputeDType;
  readonly sizes: string;
  /** Median of a call. */
  readonly seconds: number;
  readonly calls: number;
  /** Multiplies and adds of products; 0 for kernels that only pass over memory. */
  readonly flops: number;
  readonly bytes: number;
  readonly limit: "products" | "memory";
  /** Least time over real time. */
  readonly fraction: number;
}

/** A kernel at its sizes, with the work that it cannot avoid. */
export interface KernelPlan {
  readonly kernel: string;
  readonly op: string;
  readonly shape: KernelShape;
  readonly sizes: string;
  readonly flops: number;
  readonly bytes: number;
}

/** Clock time per kernel. */
const milliseconds = 60;
const triadCount = 2 ** 25;
/** Values of the optimiser's ranges: far beyond any cache. */
const mostOptimizerValues = 2 ** 24;
/** Bytes of a chunk of logits. */
const mostLogitBytes = 2 ** 27;

export async function measureBandwidth(addon: Addon): Promise<number> {
  const { seconds } = await addon.timeKernel("triad", { dtype: "fp32", count: triadCount }, 300);
  return (3 * 4 * triadCount) / seconds / 1e9;
}

/** @param gemmPeak in GFLOP/s; bandwidth in GB/s */
export async function measureKernels(
  addon: Addon,
  benchCase: BenchCase,
  rates: { readonly gemmPeak: number; readonly bandwidth: number },
  onKernel: (kernel: string) => void,
): Promise<KernelResult[]> {
  const { shape, dtype } = benchCase;
  const results: KernelResult[] = [];
  for (const { kernel, op, shape: sizes, flops, bytes, sizes: text } of kernelPlans(shape, dtype, benchCase.lora)) {
    onKernel(kernel);
    const { seconds, calls } = await addon.timeKernel(op, sizes, milliseconds);
    const productSeconds = flops / (rates.gemmPeak * 1e9);
    const memorySeconds = bytes / (rates.bandwidth * 1e9);
    results.push({
      ...{ arch: shape.name, kernel, dtype, sizes: text, seconds, calls, flops, bytes },
      limit: productSeconds > memorySeconds ? "products" : "memory",
      fraction: Math.max(productSeconds, memorySeconds) / seconds,
    });
  }
  return results;
}

type Lora = { readonly rank: number; readonly dropout: number };

export function kernelPlans(shape: BenchShape, dtype: ComputeDType, lora: Lora): KernelPlan[] {
  const { spec } = shape;
  const N = stepTokens(shape);
  const width = dtype === "bf16" ? 2 : 4;
  const headRows = Math.max(1, Math.min(N, Math.floor(mostLogitBytes / (spec.vocabSize * width))));
  const up = spec.names.mlpUp.length * spec.intermediateSize;
  const qkv = (spec.heads + 2 * spec.kvHeads) * spec.headDim;
  const products = [
    { name: "qkv", N, rows: qkv, cols: spec.hiddenSize },
    { name: "attention output", N, rows: spec.hiddenSize, cols: spec.heads * spec.headDim, residualOutput: true },
    { name: "MLP up", N, rows: up, cols: spec.hiddenSize },
    { name: "MLP down", N, rows: spec.hiddenSize, cols: spec.intermediateSize, residualOutput: true },
    { name: "LM head", N: headRows, rows: spec.vocabSize, cols: spec.hiddenSize },
  ];
  return [
    ...products.flatMap((product) => linearPlans(product, dtype, width)),
    ...loraPlans(spec, N, qkv, dtype, width, lora),
    ...attentionPlans(shape, dtype, width),
    ...rowPlans(spec, N, dtype, width),
    ...lossPlans(spec, N, headRows, dtype, width),
    ...optimizerPlans(spec, dtype),
  ];
}

function linearPlans(
  product: { readonly name: string; readonly N: number; readonly rows: number; readonly cols: number; readonly residualOutput?: boolean },
  dtype: ComputeDType,
  width: number,
): KernelPlan[] {
  const { name, N, rows, cols, residualOutput = false } = product;
  const shape = { dtype, N, rows, cols };
  const sizes = `${N} x ${rows} x ${cols}`;
  const flops = 2 * N * rows * cols;
  const [x, y, w] = [N * cols * width, N * rows * width, rows * cols * width];
  const output = residualOutput ? 2 * 4 * N * rows : y; // the residual stream is read and written
  return [
    { kernel: `linear_forward, ${name}`, op: "linear_forward", shape: { ...shape, residualOutput }, sizes, flops, bytes: x + w + output },
    { kernel: `linear_backward_input, ${name}`, op: "linear_backward_input", shape, sizes, flops, bytes: x + w + y },
    { kernel: `linear_backward_weight, ${name}`, op: "linear_backward_weight", shape, sizes, flops, bytes: x + y + 4 * rows * cols },
  ];
}

/** The stacked adapters of query, key and value: R is their ranks' sum. */
function loraPlans(spec: DecoderSpec, N: number, qkv: number, dtype: ComputeDType, width: number, { rank, dropout }: Lora): KernelPlan[] {
  const C = spec.hiddenSize;
  const R = rank * spec.names.qkv.length;
  const product = 2 * N * R * C;
  const sizes = `${N} x ${C} x ${R}`;
  const [x, h, A] = [N * C * width, N * R * width, R * C * width];
  const down = { dtype, N, C, R, dropout };
  const upSizes = `${N} x ${qkv} x ${R}`;
  return [
    {
      kernel: "linear_forward with adapter, qkv",
      op: "linear_forward",
      shape: { dtype, N, rows: qkv, cols: C, R },
      sizes: `${N} x ${qkv} x ${C} + ${R}`,
      flops: 2 * N * qkv * (C + R),
      bytes: x + h + (qkv * (C + R) + N * qkv) * width,
    },
    { kernel: "lora_down_forward", op: "lora_down_forward", shape: down, sizes, flops: product, bytes: x + h + A },
    {
      kernel: "lora_up_backward",
      op: "lora_up_backward",
      shape: { dtype, N, rows: qkv, R },
      sizes: upSizes,
      flops: 2 * N * qkv * R,
      bytes: (N * qkv + qkv * R + N * R) * width,
    },
    {
      kernel: "lora_down_backward",
      op: "lora_down_backward",
      shape: down,
      sizes,
      flops: 2 * product,
      bytes: 3 * x + h + A + 2 * 4 * R * C,
    },
  ];
}

function attentionPlans(shape: BenchShape, dtype: ComputeDType, width: number): KernelPlan[] {
  const { spec, sequenceLength: T } = shape;
  const { heads: H, kvHeads: G, headDim: D, positions } = spec;
  const N = stepTokens(shape);
  const rotary = positions.kind === "rope" ? { rotaryDim: positions.rotaryDim } : { alibi: true };
  const sizes = { dtype, N, H, G, D, sequenceLength: T, ...rotary };
  const sequences = cutIntoSequences(N, T); // as the timer lays them out: end to end over all tokens
  const pairs = H * attendedPairs(sequences);
  const [qkv, out, lse] = [N * (H + 2 * G) * D * width, N * H * D * width, 4 * N * H];
  const text = `${N % T === 0 ? `${sequences.length} x ${T}` : `${N} by ${T}`}, ${H} heads of ${D}`;
  return [
    { kernel: "attention_forward", op: "attention_forward", shape: sizes, sizes: text, flops: 4 * D * pairs, bytes: qkv + out + lse },
    // Scores computed once more are no work: 8 D per pair, not 10.
    {
      kernel: "attention_backward",
      op: "attention_backward",
      shape: sizes,
      sizes: text,
      flops: 8 * D * pairs,
      bytes: 2 * (qkv + out) + lse,
    },
  ];
}

/** Norms and activations pass over memory: no products. */
function rowPlans(spec: DecoderSpec, N: number, dtype: ComputeDType, width: number): KernelPlan[] {
  const { hiddenSize: C, intermediateSize: I } = spec;
  const norm = { dtype, kind: spec.norm, N, C };
  const kind = spec.activation === "gelu" ? "gelu_erf" : spec.activation;
  const activation = { dtype, kind, N, I };
  const inputs = spec.names.mlpUp.length; // 2 for swiglu
  const memory = (op: string, shape: KernelShape, name: string, sizes: string, bytes: number): KernelPlan => ({
    ...{ kernel: `${op}, ${name}`, op, shape, sizes, flops: 0, bytes },
  });
  return [
    memory("norm_forward", norm, spec.norm, `${N} x ${C}`, N * C * (4 + width)),
    memory("norm_backward", norm, `${spec.norm}, frozen`, `${N} x ${C}`, N * C * (3 * 4 + width)),
    memory("norm_backward", { ...norm, trained: true }, `${spec.norm}, trained`, `${N} x ${C}`, N * C * (3 * 4 + width)),
    memory("activation_forward", activation, kind, `${N} x ${I}`, N * I * (inputs + 1) * width),
    memory("activation_backward", activation, kind, `${N} x ${I}`, N * I * (2 * inputs + 1) * width),
  ];
}

function lossPlans(spec: DecoderSpec, N: number, headRows: number, dtype: ComputeDType, width: number): KernelPlan[] {
  const { hiddenSize: C, vocabSize: V } = spec;
  const embedding = { dtype, N, C, V };
  const sizes = `${N} of ${V} x ${C}`;
  return [
    {
      ...{ kernel: "cross_entropy", op: "cross_entropy", shape: { dtype, N: headRows, V }, sizes: `${headRows} x ${V}` },
      ...{ flops: 0, bytes: 2 * headRows * V * width },
    },
    { kernel: "embedding_forward", op: "embedding_forward", shape: embedding, sizes, flops: 0, bytes: N * C * (width + 4) },
    { kernel: "embedding_backward", op: "embedding_backward", shape: embedding, sizes, flops: 0, bytes: N * C * 3 * 4 },
  ];
}

function optimizerPlans(spec: DecoderSpec, dtype: ComputeDType): KernelPlan[] {
  const count = Math.min(spec.vocabSize * spec.hiddenSize, mostOptimizerValues);
  const sizes = count.toLocaleString("en-US");
  return [
    { kernel: "add_squares", op: "add_squares", shape: { dtype, count }, sizes, flops: 0, bytes: 4 * count },
    // master (in bf16 two halves of 2 bytes), m and v are read and written, the gradient is read
    { kernel: "adamw", op: "adamw", shape: { dtype, count }, sizes, flops: 0, bytes: (3 * 8 + 4) * count },
  ];
}
