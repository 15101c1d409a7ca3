/** What a model folder holds and what tuning it would need; reads headers only, no weights. */
import { openCheckpoint } from "../checkpoint/hf-folder.js";
import { loraTargets, matmulParameters, parameterCount, studyLoraTargets } from "../families/parameters.js";
import type { ComputeDType, MemoryPlan, TrainerOptions } from "../native/addon-types.js";
import { loadAddon } from "../native/load.js";
import { resolveDevice, resolveDType } from "../native/model.js";
import { adamW, trainPresets } from "../train/presets.js";

export interface ModelReport {
  readonly modelType: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocabSize: number;
  readonly parameters: number;
  /** Without a plain embedding look-up. */
  readonly matmulParameters: number;
  /** Values stored per type. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** Modules that LoRA can adapt. */
  readonly loraTargets: readonly string[];
  /** Bytes to train with the presets' settings and micro-batches of `microBatchTokens`. */
  readonly memory: { readonly lora: MemoryPlan; readonly fft: MemoryPlan };
  readonly microBatchTokens: number;
  readonly dtype: ComputeDType;
}

export interface InspectOptions {
  /** Default "auto". */
  readonly device?: string | undefined;
  /** Compute type; default: bf16 where the hardware has it, else fp32. */
  readonly dtype?: ComputeDType | undefined;
  /** Default 2,048. */
  readonly microBatchTokens?: number | undefined;
}

/**
 * Sizes of a model folder, what can be trained in it, and the memory that takes; no weight is read.
 *
 * @throws PolypacaError as `openCheckpoint` does for a folder that is no model or is damaged */
export async function inspectModel(dir: string, options: InspectOptions = {}): Promise<ModelReport> {
  const { spec, sources } = await openCheckpoint(dir);
  const dtypes: Record<string, number> = {};
  for (const { dtype, shape } of sources) dtypes[dtype] = (dtypes[dtype] ?? 0) + shape.reduce((a, b) => a * b, 1);
  const { loraRank: rank, loraAlpha: alpha, loraDropout: dropout, maxGradNorm } = trainPresets["paper-lora"].values;
  const addon = loadAddon();
  const { microBatchTokens = 2048 } = options;
  const device = resolveDevice(addon, options.device, options.dtype);
  const dtype = resolveDType(addon, options.dtype, device);
  const plan = (method: "lora" | "fft"): MemoryPlan => {
    const lora = { rank, alpha, dropout, scaling: alpha / rank, targets: studyLoraTargets(spec), seed: 0 };
    const trainer: TrainerOptions = { ...adamW, method, weightDecay: 0, maxGradNorm, recompute: "none", microBatchTokens, seed: 0 };
    return addon.planMemory(spec, method === "lora" ? lora : null, { device, dtype, allowOvercommit: false }, trainer);
  };
  const { modelType, layers, hiddenSize, heads, kvHeads, vocabSize } = spec;
  return {
    ...{ modelType, layers, hiddenSize, heads, kvHeads, vocabSize },
    parameters: parameterCount(spec),
    matmulParameters: matmulParameters(spec),
    dtypes,
    loraTargets: loraTargets(spec),
    memory: { lora: plan("lora"), fft: plan("fft") },
    ...{ microBatchTokens, dtype },
  };
}
