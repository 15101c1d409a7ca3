import { type AdapterFolder, readAdapterFolder, writeAdapterFolder } from "../checkpoint/adapter.js";
import { type Checkpoint, openCheckpoint, writeModelFolder } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { onAbort } from "./abort.js";
import type {
  Addon,
  Batch,
  ComputeDType,
  Generated,
  GenerateOptions,
  LoraOptions,
  NamedTensor,
  NativeModel,
  TensorInfo,
} from "./addon-types.js";
import { loadAddon } from "./load.js";

export interface LoadOptions {
  /** "auto" (default: a GPU where there is one), "cpu", "cuda", "cuda:<n>", or "cuda-emulated" (slow, for tests). */
  readonly device?: string;
  /** Compute type. Default: bf16 on CUDA and where the CPU has bf16 dot products, else fp32. CUDA takes bf16 only. */
  readonly dtype?: ComputeDType;
  /** Go on where the predicted memory does not fit. Default false. */
  readonly allowOvercommit?: boolean;
}

export interface AddLoraOptions {
  /** Default 8. */
  readonly rank?: number;
  /** Default 16; the adapter's share is scaled by alpha / rank. */
  readonly alpha?: number;
  /** In [0, 1). Default 0. */
  readonly dropout?: number;
  /** Names that modules end in, as in the checkpoint: "query_key_value", "q_proj", … */
  readonly targets: readonly string[];
  /** Of A's initial values. Default 0. */
  readonly seed?: number;
}

const generateDefaults: GenerateOptions = {
  maxNewTokens: 256,
  numBeams: 1,
  noRepeatNgramSize: 0,
  repetitionPenalty: 1,
  lengthPenalty: 1,
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 0,
  eosTokenId: -1,
  minNewTokens: 0,
};

/** What `config.json` says of EOS; -1 where it says nothing. */
function eosOf(config: Readonly<Record<string, unknown>> | undefined): number {
  const id = config?.eos_token_id;
  return typeof id === "number" ? id : -1;
}

/**
 * The device that is used where `device` was asked for. "auto" (and nothing) takes the first GPU where this build has CUDA and the
 * machine has one, else the CPU; and the CPU where `dtype` is fp32, which CUDA does not compute in.
 *
 * @throws PolypacaError `USAGE` for a name that is no device; `UNSUPPORTED` that says which is missing: build, driver, device or emulator
 */
export function resolveDevice(addon: Addon, device: string | undefined, dtype?: ComputeDType): string {
  if (device === "cpu") return device;
  const { cuda, cudaDevices, cudaEmulator } = addon.machine();
  if (device === undefined || device === "auto") return cudaDevices.length > 0 && dtype !== "fp32" ? "cuda" : "cpu";
  if (device === "cuda-emulated") {
    if (cudaEmulator) return device;
    throw new PolypacaError(
      "UNSUPPORTED",
      `--device ${device}: this build has no emulator. Build with POLYPACA_EMULATOR=ON, or use --device cpu.`,
    );
  }
  if (!/^cuda(:\d+)?$/.test(device))
    throw new PolypacaError("USAGE", `--device ${device}: expected auto, cpu, cuda, cuda:<n> or cuda-emulated`);
  const index = Number(device.split(":")[1] ?? 0);
  if (cudaDevices.some((found) => found.index === index)) return device;
  if (cudaDevices.length > 0) {
    const found = cudaDevices.map(({ index, name }) => `cuda:${index} (${name})`).join(", ");
    throw new PolypacaError("UNSUPPORTED", `--device ${device}: this machine has ${found}`);
  }
  const problem =
    cuda === "not built" ? "CUDA is not built into the addon. Build with POLYPACA_CUDA=ON where nvcc 13 is, or use" : `${cuda}. Use`;
  throw new PolypacaError("UNSUPPORTED", `--device ${device}: ${problem} --device cpu.`);
}

/** Whether work on this device runs CUDA's kernels, emulated ones included. */
export function isCuda(device: string): boolean {
  return device.startsWith("cuda");
}

/**
 * The compute type: what was asked for, else bf16 on CUDA and on CPUs with bf16 dot products, else fp32.
 *
 * @throws PolypacaError `UNSUPPORTED` for fp32 on CUDA
 */
export function resolveDType(addon: Addon, dtype: ComputeDType | undefined, device = "cpu"): ComputeDType {
  const onCuda = isCuda(device);
  if (onCuda && dtype === "fp32") {
    throw new PolypacaError("UNSUPPORTED", `--dtype fp32 with --device ${device}: CUDA computes in bf16 only. Use --dtype bf16.`);
  }
  if (dtype) return dtype;
  if (onCuda) return "bf16";
  const machine = addon.machine();
  return machine.bf16Dot || machine.amxBf16 ? "bf16" : "fp32";
}

/**
 * A causal language model with its weights in native memory, and at most one adapter.
 * All work runs on the one compute thread of the process; calls queue.
 */
export class Model {
  readonly spec: DecoderSpec;
  readonly dtype: ComputeDType;
  /** Where it was loaded from; absent for a model that was initialised here. */
  readonly checkpoint: Checkpoint | undefined;
  /** Settings of the adapter in use, where there is one. */
  lora: LoraOptions | undefined;
  /** For src/native only. */
  readonly native: NativeModel;
  readonly #config: Readonly<Record<string, unknown>> | undefined;
  readonly #adapters = new Map<string, LoraOptions>();

  private constructor(
    native: NativeModel,
    spec: DecoderSpec,
    dtype: ComputeDType,
    checkpoint: Checkpoint | undefined,
    config: Readonly<Record<string, unknown>> | undefined,
  ) {
    this.native = native;
    this.spec = spec;
    this.dtype = dtype;
    this.checkpoint = checkpoint;
    this.#config = config;
  }

  /**
   * Loads a Hugging Face folder (safetensors or pytorch_model.bin).
   *
   * @throws PolypacaError `BAD_CHECKPOINT`, `CHECKPOINT_MISMATCH`, `UNSUPPORTED`, `NOT_FOUND`, `OUT_OF_MEMORY`
   */
  static async load(dir: string, options: LoadOptions = {}): Promise<Model> {
    const addon = loadAddon();
    const checkpoint = await openCheckpoint(dir);
    const device = resolveDevice(addon, options.device, options.dtype);
    const dtype = resolveDType(addon, options.dtype, device);
    const native = await wrapErrors(
      addon.loadModel(checkpoint.spec, checkpoint.sources, {
        device,
        dtype,
        allowOvercommit: options.allowOvercommit ?? false,
      }),
    );
    return new Model(native, checkpoint.spec, dtype, checkpoint, checkpoint.config);
  }

  /**
   * A randomly initialised model: matrices normal with deviation `initializerRange` (default 0.02), norms 1, biases 0.
   * The same seed gives the same values on every machine.
   */
  static async init(
    spec: DecoderSpec,
    options: LoadOptions & {
      readonly seed: number;
      readonly initializerRange?: number;
      readonly config?: Readonly<Record<string, unknown>>;
    },
  ): Promise<Model> {
    const addon = loadAddon();
    const device = resolveDevice(addon, options.device, options.dtype);
    const dtype = resolveDType(addon, options.dtype, device);
    const native = await wrapErrors(
      addon.initModel(spec, {
        device,
        dtype,
        allowOvercommit: options.allowOvercommit ?? false,
        seed: options.seed,
        initializerRange: options.initializerRange ?? 0.02,
      }),
    );
    return new Model(native, spec, dtype, undefined, options.config);
  }

  get parameters(): number {
    return this.native.parameters;
  }

  /** `config.json` of the model, where it has one. */
  get config(): Readonly<Record<string, unknown>> | undefined {
    return this.#config;
  }

  tensors(kind: "weights" | "adapter"): TensorInfo[] {
    return this.native.tensors(kind);
  }

  async read(name: string): Promise<NamedTensor> {
    return wrapErrors(this.native.read(name));
  }

  /** Adds a fresh adapter: A uniform in ±1/sqrt(in_features), B zero. */
  async addLora(options: AddLoraOptions): Promise<void> {
    const rank = options.rank ?? 8;
    const alpha = options.alpha ?? 16;
    const lora: LoraOptions = {
      rank,
      alpha,
      scaling: alpha / rank,
      dropout: options.dropout ?? 0,
      targets: options.targets,
      seed: options.seed ?? 0,
    };
    await wrapErrors(this.native.addLora(lora));
    this.#adapters.set("default", lora);
    this.lora = lora;
  }

  /**
   * Loads a PEFT adapter folder, which is then in use. Several can be loaded under names of their own; `setAdapter` changes between them.
   *
   * @throws PolypacaError `INVALID_ARGUMENT` where there is one of that name already
   */
  async loadAdapter(dir: string, name = "default"): Promise<AdapterFolder> {
    const adapter = await readAdapterFolder(dir);
    await wrapErrors(this.native.loadAdapter(adapter.lora, adapter.sources, name));
    this.#adapters.set(name, adapter.lora);
    this.lora = adapter.lora;
    return adapter;
  }

  /** Names of the adapters that were loaded. */
  get adapters(): readonly string[] {
    return [...this.#adapters.keys()];
  }

  /** Uses a loaded adapter; null: the model alone. */
  async setAdapter(name: string | null): Promise<void> {
    await wrapErrors(this.native.activateAdapter(name));
    this.lora = name === null ? undefined : this.#adapters.get(name);
  }

  /** fp32 logits, row-major [tokens, vocab]. */
  async logits(inputs: Int32Array | Omit<Batch, "labels">): Promise<Float32Array> {
    const batch: Batch =
      inputs instanceof Int32Array
        ? { inputIds: inputs, labels: ignored(inputs.length), sequenceLengths: Int32Array.of(inputs.length) }
        : { ...inputs, labels: ignored(inputs.inputIds.length) };
    return wrapErrors(this.native.logits(batch));
  }

  /** Mean cross-entropy over the batch's target tokens, in nats; NaN where it has none. */
  async loss(batch: Batch): Promise<{ readonly loss: number; readonly targetTokens: number }> {
    const { lossSum, targetTokens } = await wrapErrors(this.native.loss(batch));
    return { loss: lossSum / targetTokens, targetTokens };
  }

  /** Gradients of the mean loss: of every weight, or of the adapter where there is one. Dropout is off. */
  async gradients(batch: Batch): Promise<Map<string, { readonly shape: readonly number[]; readonly data: Float32Array }>> {
    const list = await wrapErrors(this.native.gradients(batch));
    return new Map(list.map(({ name, shape, data }) => [name, { shape, data }]));
  }

  /** Streams the tokens of one prompt as they are decided; one beam only. Leaving the loop stops the generation. */
  async *generate(inputIds: Int32Array, options: Partial<GenerateOptions> = {}): AsyncGenerator<number, Generated, undefined> {
    const queue: number[] = [];
    let wake = (): void => {};
    const running = this.native
      .generate([inputIds], { ...generateDefaults, eosTokenId: eosOf(this.#config), ...options, numBeams: 1 }, (_index, token) => {
        queue.push(token);
        wake();
      })
      .finally(() => wake());
    let settled = false;
    const finished = running.then(
      () => {
        settled = true;
      },
      () => {
        settled = true;
      },
    );
    try {
      for (;;) {
        const token = queue.shift();
        if (token !== undefined) yield token;
        else if (settled) break;
        else {
          const more = new Promise<void>((resolve) => {
            wake = resolve;
          });
          await Promise.race([more, finished]);
        }
      }
      return (await wrapErrors(running))[0] as Generated;
    } finally {
      if (!settled) {
        this.native.requestStop();
        await finished;
      }
    }
  }

  /**
   * Generates for a batch of prompts. EOS comes from `config.json` unless it is given.
   *
   * @param onResult called once per prompt, in order, when the batch is done
   */
  async generateBatch(
    prompts: readonly Int32Array[],
    options: Partial<GenerateOptions> & { readonly signal?: AbortSignal } = {},
    onResult: (index: number, result: Generated) => void = () => {},
  ): Promise<Generated[]> {
    const { signal, ...rest } = options;
    const running = this.native.generate(prompts, { ...generateDefaults, eosTokenId: eosOf(this.#config), ...rest }, null);
    const release = onAbort(signal, () => this.native.requestStop());
    try {
      const results = await wrapErrors(running);
      results.forEach((result, index) => {
        onResult(index, result);
      });
      return results;
    } finally {
      release();
    }
  }

  /** Adds the adapter into the weights, in fp32, rounded once to the compute type; the adapter is gone afterwards. */
  async merge(): Promise<void> {
    await wrapErrors(this.native.merge());
    this.#adapters.clear();
    this.lora = undefined;
  }

  /** Writes a complete Hugging Face folder; complete or absent, never half written. */
  async save(dir: string): Promise<void> {
    if (!this.#config) throw new PolypacaError("INVALID_ARGUMENT", "this model has no config.json: pass `config` to Model.init");
    await writeModelFolder(this.native, dir, {
      config: this.#config,
      dtype: this.dtype,
      ...(this.checkpoint ? { source: this.checkpoint } : {}),
    });
  }

  /** Writes the adapter as PEFT does (fp32). */
  async saveAdapter(dir: string): Promise<void> {
    if (!this.lora) throw new PolypacaError("INVALID_ARGUMENT", "this model has no adapter to save");
    await writeAdapterFolder(this.native, dir, { lora: this.lora, baseModel: this.checkpoint?.dir ?? null });
  }

  /** Frees native memory after the queued jobs; later calls throw `DISPOSED`. Calling it again does nothing. */
  async dispose(): Promise<void> {
    await this.native.dispose();
  }
}

function ignored(length: number): Int32Array {
  return new Int32Array(length).fill(-100);
}

/** Native errors as PolypacaError. */
export async function wrapErrors<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (cause) {
    throw PolypacaError.from(cause);
  }
}
