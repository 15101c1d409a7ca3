/**
 * The typed mirror of the native addon: what native/binding exports, and nothing else. Only src/native imports it as a value;
 * everyone else uses the classes in model.ts and trainer.ts.
 */
import type { DecoderSpec } from "../families/decoder-spec.js";

/** Of weights. */
export type StoredDType = "F32" | "BF16" | "F16";
/** Of an optimiser's state: U8 are codes of 8-bit moments. */
export type StateDType = StoredDType | "U8";
/** adamw8bit: moments of 8 bits (Dettmers et al. 2022, arXiv:2110.02861), a quarter of the memory. */
export type Optimizer = "adamw" | "adamw8bit";
export type ComputeDType = "fp32" | "bf16";

/** Where the bytes of one checkpoint tensor are; native code maps the file and reads it from there. */
export interface TensorSource {
  readonly name: string;
  readonly file: string;
  /** Byte offset of element 0 in the file. */
  readonly offset: number;
  readonly dtype: StateDType;
  readonly shape: readonly number[];
  /** In elements; absent for dense row-major. Only tensors from pytorch_model.bin have others. */
  readonly strides?: readonly number[];
}

/** A tensor the native side can write out. */
export interface TensorInfo {
  readonly name: string;
  readonly shape: readonly number[];
  /** The type it is kept in. */
  readonly dtype: StateDType;
}

/** Packed sequences laid end to end. labels are aligned with their input token (shifted inside); -100 is ignored. */
export interface Batch {
  readonly inputIds: Int32Array; // [N]
  readonly labels: Int32Array; // [N]
  readonly sequenceLengths: Int32Array; // [S], sums to N
  /** Index of each sequence in the step's batch [S]: the dropout key. Defaults to 0, 1, 2, … */
  readonly exampleIndices?: Int32Array;
}

export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface ModelOptions {
  readonly device: string;
  readonly dtype: ComputeDType;
  readonly allowOvercommit: boolean;
}

export interface LoraOptions {
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank, or alpha / sqrt(rank) for rsLoRA. */
  readonly scaling: number;
  readonly dropout: number;
  /** Module names as they end in the checkpoint: "query_key_value", "q_proj", … */
  readonly targets: readonly string[];
  readonly seed: number;
}

export interface StepOptions {
  readonly learningRate: number;
  /** Targets of the whole step, over all its micro-batches. */
  readonly targetTokens: number;
}

export interface StepResult {
  /** Nats per target token over the whole step. */
  readonly loss: number;
  /** L2 over everything trained, before clipping. */
  readonly gradNorm: number;
  readonly tokens: number;
  readonly targetTokens: number;
  readonly seconds: number;
  readonly forwardSeconds: number;
  readonly backwardSeconds: number;
  readonly optimizerSeconds: number;
}

export interface TrainerOptions {
  readonly method: "fft" | "lora";
  /** Default "adamw". */
  readonly optimizer?: Optimizer;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** 0: no clipping. */
  readonly maxGradNorm: number;
  readonly recompute: "none" | "block";
  /** Capacity of a micro-batch in tokens: the arena is planned for it and committed before step 1. */
  readonly microBatchTokens: number;
  /** Seed of the dropout masks. */
  readonly seed: number;
}

export interface GenerateOptions {
  readonly maxNewTokens: number;
  readonly numBeams: number;
  readonly noRepeatNgramSize: number;
  /** 1: none. */
  readonly repetitionPenalty: number;
  readonly lengthPenalty: number;
  /** 0: greedy (or beam search); above: sampling. */
  readonly temperature: number;
  readonly topK: number; // 0: off
  readonly topP: number; // 1: off
  readonly seed: number;
  readonly eosTokenId: number; // -1: none
  /** As transformers' min_new_tokens: EOS is suppressed in the first so many tokens. */
  readonly minNewTokens: number;
}

export interface Generated {
  /** Without the prompt; ends with EOS where EOS was produced. */
  readonly tokens: Int32Array;
  /** Beam search: sum of log-probabilities / length^lengthPenalty; otherwise the sum of log-probabilities. */
  readonly score: number;
  readonly finishReason: "stop" | "length";
  /** Beam search: all hypotheses kept, best first. */
  readonly beams?: readonly { readonly tokens: Int32Array; readonly score: number }[];
}

/** A sequence of a running batch: beams have no place there. */
export interface SequenceOptions extends Omit<GenerateOptions, "numBeams" | "lengthPenalty"> {
  /** How many of the likeliest tokens are reported with each, 0 to 20. */
  readonly topLogprobs: number;
  /** As `loadAdapter` named it; null: the model alone. */
  readonly adapter: string | null;
}

export interface TokenLogprob {
  readonly token: number;
  /** ln p under the model's own distribution, before penalties and temperature. */
  readonly logprob: number;
}

export interface NativeAdmission {
  /** The caller's number for it, not in use in the batch. */
  readonly sequence: number;
  readonly prompt: Int32Array;
  readonly options: SequenceOptions & Pick<GenerateOptions, "numBeams" | "lengthPenalty">;
}

export interface NativeDecodedToken extends TokenLogprob {
  readonly sequence: number;
  /** The likeliest, best first. */
  readonly top: readonly TokenLogprob[];
  /** Why this was the sequence's last; "not_finite": there is no token, the scores are of no use. */
  readonly finish: "stop" | "length" | "not_finite" | null;
}

export interface NativeContinuousBatch {
  /**
   * Takes sequences out, reads the prompts of new ones, and gives the next token of every sequence. One with a `finish` is out.
   * An admission that cannot be rejects before anything changes; after any other error the batch is of no more use.
   */
  step(removals: readonly number[], admissions: readonly NativeAdmission[]): Promise<NativeDecodedToken[]>;
  requestStop(): void;
  dispose(): Promise<void>;
}

/** Bytes a run needs, by what needs them. */
export interface MemoryPlan {
  readonly weights: number;
  readonly gradients: number;
  readonly optimizer: number;
  readonly activations: number;
  readonly head: number;
  /** Packing buffers of the matrix products. */
  readonly scratch: number;
  readonly total: number;
}

/** Where tensors go in a file that TypeScript laid out: `header` first, then each tensor densely, converted to `dtype`. */
export interface TensorFileLayout {
  readonly path: string;
  readonly header: Uint8Array;
  readonly tensors: readonly { readonly name: string; readonly dtype: StateDType }[];
}

export interface NativeModel {
  readonly parameters: number;
  /** kind "weights": the base model; "adapter": lora_A and lora_B in PEFT's names; "trainable": what a trainer of `method` would update. */
  tensors(kind: "weights" | "adapter"): TensorInfo[];
  read(name: string): Promise<NamedTensor>;
  /** Writes (create, write, fsync, close; the caller renames). */
  write(layout: TensorFileLayout): Promise<void>;
  addLora(options: LoraOptions): Promise<void>;
  /** A and B from PEFT-named sources; every target module must be there. */
  loadAdapter(options: LoraOptions, sources: readonly TensorSource[], name: string): Promise<void>;
  /** Which of the loaded adapters is in use; null: none. */
  activateAdapter(name: string | null): Promise<void>;
  merge(): Promise<void>;
  logits(batch: Batch): Promise<Float32Array>;
  loss(batch: Batch): Promise<{ lossSum: number; targetTokens: number }>;
  /** Gradients of the mean loss: of all weights, or of the adapter where there is one. Dropout is off. */
  gradients(batch: Batch): Promise<NamedTensor[]>;
  generate(
    prompts: readonly Int32Array[],
    options: GenerateOptions,
    onToken: ((index: number, token: number) => void) | null,
  ): Promise<Generated[]>;
  /** Commits caches of slots x maxLength positions. */
  openBatch(options: { readonly slots: number; readonly maxLength: number }): Promise<NativeContinuousBatch>;
  createTrainer(options: TrainerOptions): Promise<NativeTrainer>;
  /** Makes the running job (logits, generate, …) stop at its next check; its promise rejects with CANCELLED. */
  requestStop(): void;
  dispose(): Promise<void>;
}

export interface NativeTrainer {
  readonly stepsTaken: number;
  readonly memory: MemoryPlan;
  step(microBatches: readonly Batch[], options: StepOptions): Promise<StepResult>;
  /** master.*, exp_avg.*, exp_avg_sq.* and the step counter's companions. */
  tensors(): TensorInfo[];
  write(layout: TensorFileLayout): Promise<void>;
  /** Restores masters and moments; every tensor of `tensors()` must be there. */
  restore(sources: readonly TensorSource[], stepsTaken: number): Promise<void>;
  requestStop(): void;
  dispose(): Promise<void>;
}

/** Labels of several lines, each line's by falling probability, laid end to end: `counts` says how many a line has. */
export interface LabelPredictions {
  readonly counts: Int32Array; // [lines]
  /** Indices into the model's labels. */
  readonly labels: Int32Array;
  /** exp(log(p + 1e-5)), as fastText gives them: slightly more than 1 is possible. */
  readonly probabilities: Float32Array;
}

export interface NativeFastText {
  /** As in the file: "__label__eng_Latn". */
  readonly labels: readonly string[];
  /** The `count` likeliest labels of each line, 0: all. */
  predict(lines: readonly string[], count: number): Promise<LabelPredictions>;
  dispose(): Promise<void>;
}

export interface CudaDevice {
  /** As in "cuda:0". */
  readonly index: number;
  readonly name: string;
  /** "9.0". */
  readonly computeCapability: string;
  /** Bytes. */
  readonly memoryTotal: number;
}

export interface MachineInfo {
  readonly isa: string;
  readonly bf16Dot: boolean;
  readonly amxBf16: boolean;
  /** Whose dense products are used: "portable" (our own) or "oneDNN 2.6.3". */
  readonly gemm: string;
  /** The oneDNN version this build was linked with; empty without it. */
  readonly onednn: string;
  readonly threads: number;
  /** Whether this build has fastText, for models of language identification that its WebAssembly build cannot hold. */
  readonly fastText: boolean;
  readonly memoryAvailable: number;
  readonly memoryTotal: number;
  /** What sets memoryAvailable: "free memory", "the cgroup's limit", "the address-space limit (ulimit -v)". */
  readonly memoryLimitedBy: string;
  /** "not built", what is missing in the driver's words, or "1 device". */
  readonly cuda: string;
  readonly cudaDevices: readonly CudaDevice[];
  /** Whether the device "cuda-emulated" is there: CUDA's kernels as C++, for tests. */
  readonly cudaEmulator: boolean;
}

/** Sizes of one operation in the letters of native/backend/backend.h; those it does not use are left out. */
export interface KernelShape {
  /** Of activations and compute weights; the residual stream is fp32. */
  readonly dtype: ComputeDType;
  /** Norms: "rms", "layer"; activations: "gelu_erf", "gelu_tanh", "swiglu". */
  readonly kind?: string;
  /** Tokens, or rows of logits. */
  readonly N?: number;
  /** A weight's out and in features, and the adapter's rank beside it. */
  readonly rows?: number;
  readonly cols?: number;
  readonly R?: number;
  readonly C?: number;
  readonly I?: number;
  readonly V?: number;
  readonly H?: number;
  readonly G?: number;
  readonly D?: number;
  readonly sequenceLength?: number;
  readonly rotaryDim?: number;
  readonly alibi?: boolean;
  /** Values of an optimiser range, or of each of triad's three arrays. */
  readonly count?: number;
  readonly dropout?: number;
  /** The weight changes every step (linear layers); its gradient is wanted (norms). */
  readonly trained?: boolean;
  /** linear_forward adds into the fp32 residual stream. */
  readonly residualOutput?: boolean;
}

export interface KernelTiming {
  /** Median of a call. */
  readonly seconds: number;
  readonly fastest: number;
  readonly calls: number;
}

export interface Addon {
  readonly version: string;
  machine(): MachineInfo;
  /** Loads weights from `sources`, or, with `seed`, initialises them as transformers does (normal, std initializerRange). */
  loadModel(spec: DecoderSpec, sources: readonly TensorSource[], options: ModelOptions): Promise<NativeModel>;
  initModel(spec: DecoderSpec, options: ModelOptions & { seed: number; initializerRange: number }): Promise<NativeModel>;
  /** Loads a fastText classifier whose file was checked (src/language-id/fasttext-file.ts). */
  loadFastText(file: string): Promise<NativeFastText>;
  planMemory(spec: DecoderSpec, lora: LoraOptions | null, model: ModelOptions, trainer: TrainerOptions): MemoryPlan;
  /**
   * Bytes of this process, and what it may still take: the least of free memory, the cgroup's limit and the address-space limit.
   * With "cpu" the same. With a GPU's name ("cuda", "cuda:1"), or "cuda-emulated": bytes that back ends of this process hold there, the most they ever held, and what is
   * free there. Throws UNSUPPORTED that says what is missing (build, driver or device) where there is none.
   */
  memoryUsage(device?: string): { readonly resident: number; readonly peakResident: number; readonly available: number };
  /** Runs one back-end operation on host arrays, on the CPU or on `args.device`; for tests. See native/binding/probe.cpp. */
  probe(op: string, args: Record<string, unknown>): Record<string, Float32Array | number>;
  /**
   * GFLOP/s. CPU: the micro-kernel alone, its panels in the cache, all threads, which no product exceeds. With a GPU's name: the
   * fastest of its back end's large bf16 products on random values, as training would run them.
   */
  measurePeak(dtype: ComputeDType, milliseconds: number, device?: string): Promise<number>;
  /** Times one back-end operation, or memory ("triad"), on buffers of its own. See native/binding/kernel_timer.cpp. */
  timeKernel(op: string, shape: KernelShape, milliseconds: number): Promise<KernelTiming>;
}
