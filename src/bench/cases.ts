/** What is measured: shapes of models, and the cases (method x dtype) on each. Plain data, so that a child process can be sent one. */
import { PolypacaError } from "../errors.js";
import { givenSizes, type ModelShape, type ShapeFlags } from "../families/family.js";
import { configFromShape, type DecoderSpec, decoderSpecFromConfig, type ModelConfig, supportedModelTypes } from "../families/index.js";
import { adapterParameterCount, parameterCount, studyLoraTargets } from "../families/parameters.js";
import { modelPresets, presetConfig } from "../families/presets.js";
import type { Method } from "../families/work.js";
import type { ComputeDType } from "../native/addon-types.js";

/** A model's shape and the batch it is trained on. */
export interface BenchShape {
  /** `model_type`, or the preset's name. */
  readonly name: string;
  /** Every size, for people and to tell shapes apart: "bloom, hidden 512, …, 4 x 256 tokens". */
  readonly description: string;
  readonly spec: DecoderSpec;
  readonly rowTokens: number;
  /** Of the sequences that fill a row: `rowTokens` where a row is one sequence, else less. */
  readonly sequenceLength: number;
  /** Rows of a step's one micro-batch. */
  readonly microBatch: number;
}

export interface BenchCase {
  /** Tells cases of one run apart, and finds the same case in another run. */
  readonly key: string;
  readonly shape: BenchShape;
  readonly method: Method;
  readonly dtype: ComputeDType;
  readonly device: string;
  /** Read by LoRA only. */
  readonly lora: LoraCase;
  readonly parameters: number;
  readonly trainableParameters: number;
}

export interface LoraCase {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly targets: readonly string[];
}

/** Which shapes, and the batch: the sizes given replace a shape's own. */
export interface BenchShapeFlags extends ShapeFlags {
  /** Model types; null: BLOOM, GPT-NeoX (Pythia) and LLaMA, or the presets'. */
  readonly archs: readonly string[] | null;
  /** Published models; null: none. */
  readonly presets: readonly string[] | null;
  /** Tokens of a row. */
  readonly seq: number;
  /** Tokens of the sequences packed into a row; null: a row is one sequence. */
  readonly sequenceLength: number | null;
  /** Rows. */
  readonly microBatch: number;
}

/** Small enough that every variant of three of them runs in three minutes on two cores, large enough that dense products dominate. */
const smallShapes: Readonly<Record<string, ModelShape>> = {
  bloom: { hidden: 512, layers: 6, heads: 8, vocab: 32_000 },
  gpt_neox: { hidden: 512, layers: 6, heads: 8, vocab: 50_304 },
  llama: { hidden: 512, layers: 6, heads: 8, vocab: 32_000 },
  baichuan: { hidden: 512, layers: 6, heads: 8, vocab: 32_000 },
};

const defaultArchs = ["bloom", "gpt_neox", "llama"];

/** What is measured where nothing else is asked for: on the CPU small shapes, on a GPU models of the study, at its context length. */
export function usualShapes(device: string): Pick<BenchShapeFlags, "presets" | "seq" | "microBatch"> {
  if (device === "cpu") return { presets: null, seq: 256, microBatch: 4 };
  return { presets: ["bloom-560m", "bloom-1b7", "bloom-7b1", "pythia-1.4b", "llama-7b", "baichuan2-7b"], seq: 512, microBatch: 16 };
}

/**
 * The shapes that the flags ask for.
 *
 * @throws PolypacaError `USAGE` for an unknown architecture or preset, both of different kinds, or sequences that are longer than
 *   a row; `BAD_CONFIG`, `INVALID_ARGUMENT` for sizes that contradict each other
 */
export function benchShapes(flags: BenchShapeFlags): BenchShape[] {
  if (flags.presets !== null) return flags.presets.map((preset) => presetShape(preset, flags));
  return (flags.archs ?? defaultArchs).map((arch) => {
    // Pythia is what people call it, gpt_neox what its config.json says.
    const modelType = arch === "pythia" ? "gpt_neox" : arch;
    const small = smallShapes[modelType];
    if (small === undefined) {
      throw new PolypacaError("USAGE", `--arch ${arch}: expected ${supportedModelTypes.join(", ")} (Pythia is gpt_neox).`);
    }
    const shape = withFlags(small, flags);
    return shapeOf(modelType, configFromShape(modelType, shape), flags);
  });
}

function presetShape(preset: string, flags: BenchShapeFlags): BenchShape {
  const shape = Object.hasOwn(modelPresets, preset) ? modelPresets[preset as keyof typeof modelPresets].shape : undefined;
  const config = presetConfig(preset, shape === undefined ? {} : withFlags(shape, flags));
  const modelType = String(config.model_type);
  const archs = (flags.archs ?? [modelType]).map((arch) => (arch === "pythia" ? "gpt_neox" : arch));
  if (archs.some((arch) => arch !== modelType)) {
    throw new PolypacaError("USAGE", `--arch ${archs.join(",")}: --preset ${preset} is ${modelType}. Leave --arch out.`);
  }
  return shapeOf(preset, config, flags);
}

/** A new hidden size brings its own number of heads and MLP width unless they are given too. */
function withFlags(shape: ModelShape, flags: BenchShapeFlags): ModelShape {
  const { intermediate: _replaced, ...others } = shape;
  const base = flags.hidden === undefined ? shape : { ...others, heads: usualHeads(flags.hidden) };
  // null: ALiBi, without a limit. A published limit is no limit of speed.
  const maxPositions = shape.maxPositions === null ? null : Math.max(shape.maxPositions ?? 2048, flags.seq);
  return { ...base, ...givenSizes(flags), maxPositions };
}

function usualHeads(hidden: number): number {
  const headDim = [64, 32, 16, 8].find((size) => hidden % size === 0) ?? hidden;
  return hidden / headDim;
}

function shapeOf(name: string, config: ModelConfig, { seq, sequenceLength, microBatch }: BenchShapeFlags): BenchShape {
  const packed = sequenceLength ?? seq;
  if (packed > seq) {
    throw new PolypacaError(
      "USAGE",
      `--sequence-length ${packed}: does not fit into a row of ${seq} tokens (--seq, or the values of --sweep seq). Make rows longer or sequences shorter.`,
    );
  }
  const spec = decoderSpecFromConfig(config, `the bench's ${name} shape`);
  const { modelType, hiddenSize, layers, heads, kvHeads, intermediateSize, vocabSize } = spec;
  const groups = kvHeads === heads ? "" : ` (${kvHeads} key/value)`;
  const description = [
    ...(name === modelType ? [modelType] : [`${name} (${modelType})`]),
    ...[`hidden ${hiddenSize}`, `${layers} layers`, `${heads} heads${groups}`, `MLP ${intermediateSize}`],
    ...[
      `vocabulary ${vocabSize.toLocaleString("en-US")}`,
      `${microBatch} x ${seq} tokens${packed < seq ? ` in sequences of ${packed}` : ""}`,
    ],
  ].join(", ");
  return { name, description, spec, rowTokens: seq, sequenceLength: packed, microBatch };
}

export interface CaseFlags {
  readonly methods: readonly Method[];
  readonly dtypes: readonly ComputeDType[];
  readonly device: string;
  readonly loraRank: number;
  readonly loraDropout: number;
}

/** LoRA and FFT of one shape and dtype stand beside each other. */
export function benchCases(shapes: readonly BenchShape[], flags: CaseFlags): BenchCase[] {
  return shapes.flatMap((shape) => flags.dtypes.flatMap((dtype) => flags.methods.map((method) => caseOf(shape, method, dtype, flags))));
}

function caseOf(shape: BenchShape, method: Method, dtype: ComputeDType, { device, loraRank, loraDropout }: CaseFlags): BenchCase {
  const targets = studyLoraTargets(shape.spec);
  const lora: LoraCase = { rank: loraRank, alpha: 16, dropout: loraDropout, targets };
  const parameters = parameterCount(shape.spec);
  const adapter = adapterParameterCount(shape.spec, lora);
  const variant = method === "lora" ? `LoRA rank ${loraRank} dropout ${loraDropout}` : "FFT";
  return {
    key: `${shape.description}, ${variant}, ${dtype}, ${device}`,
    ...{ shape, method, dtype, device, lora },
    parameters: method === "lora" ? parameters + adapter : parameters,
    trainableParameters: method === "lora" ? adapter : parameters,
  };
}

export function stepTokens({ rowTokens, microBatch }: BenchShape): number {
  return rowTokens * microBatch;
}

/** The sequences of a step, row after row: in each row as many of `sequenceLength` as fit, and a shorter one in what is left. */
export function stepSequences({ rowTokens, sequenceLength, microBatch }: BenchShape): number[] {
  return Array.from({ length: microBatch }, () => cutIntoSequences(rowTokens, sequenceLength)).flat();
}

export function cutIntoSequences(tokens: number, sequenceLength: number): number[] {
  const rest = tokens % sequenceLength;
  return [...new Array<number>(Math.floor(tokens / sequenceLength)).fill(sequenceLength), ...(rest > 0 ? [rest] : [])];
}
