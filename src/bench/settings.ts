/** What a run of the bench is asked for: options, defaults, and what contradicts itself. Light, so that the CLI can show defaults. */
import { PolypacaError } from "../errors.js";
import type { ShapeFlags } from "../families/family.js";
import type { Method } from "../families/work.js";
import type { ComputeDType } from "../native/addon-types.js";
import type { BenchShapeFlags } from "./cases.js";
import type { SweepSettings } from "./sweep.js";

/** Options of `runBench`; each may be left out. Sizes (`hidden`, `layers`, …) replace those of the shapes that are measured. */
export interface BenchSettings extends ShapeFlags {
  /** "bloom", "gpt_neox" (or "pythia"), "llama", "baichuan". Default: the first three; "bloom" with `sweep`; the presets' own. */
  readonly archs?: readonly string[] | undefined;
  /**
   * Published models whose shapes are taken: "pythia-160m", "llama-7b", … Default: small shapes of hidden size 512 with 6 layers; on a
   * GPU, where no model and no size is asked for, six models of the study.
   */
  readonly presets?: readonly string[] | undefined;
  /** Tokens of a row, at least 2. Default 256, on a GPU 512. */
  readonly seq?: number | undefined;
  /** Tokens of the sequences packed into each row, 2 to `seq`. Default: a row is one sequence. Not with `peer`. */
  readonly sequenceLength?: number | undefined;
  /** Rows of a step, at least 1. Default 4, on a GPU 16. */
  readonly microBatch?: number | undefined;
  /** Default: LoRA and FFT. */
  readonly methods?: readonly Method[] | undefined;
  /** Default: bf16 and fp32; with `peer` or `sweep` the machine's own alone (bf16 where the CPU has dot products of it); on a GPU bf16. */
  readonly dtypes?: readonly ComputeDType[] | undefined;
  /** "auto" (default), "cpu", "cuda" or "cuda:<n>". */
  readonly device?: string | undefined;
  /** Rank of the adapters, at least 1. Default 8; their alpha is 16. */
  readonly loraRank?: number | undefined;
  /** Dropout of the adapters' input, in [0, 1). Default 0.05. */
  readonly loraDropout?: number | undefined;
  /** Measured steps per case, after two of warm-up. Default: 3 to 15, as their time allows. 0, with `kernels`: none. */
  readonly steps?: number | undefined;
  /** Of these cases only those with these keys, as a report has them. Default: all. */
  readonly keys?: readonly string[] | undefined;
  /** One size that varies, for one model. Default: none. */
  readonly sweep?: SweepSettings | undefined;
  /** Every kernel of the CPU on its own as well. Default false. */
  readonly kernels?: boolean | undefined;
  /** PyTorch on the same shapes, in turn with ours. Default false. */
  readonly peer?: boolean | undefined;
}

/** Settings with every default filled in; null, and of the batch undefined, where what is measured or the device decides. */
export interface ResolvedBenchSettings extends Omit<BenchShapeFlags, "seq" | "microBatch"> {
  readonly seq?: number | undefined;
  readonly microBatch?: number | undefined;
  readonly methods: readonly Method[];
  readonly dtypes: readonly ComputeDType[] | null;
  readonly device: string;
  readonly loraRank: number;
  readonly loraDropout: number;
  readonly steps: number | null;
  readonly keys: readonly string[] | null;
  readonly sweep: SweepSettings | null;
  readonly kernels: boolean;
  readonly peer: boolean;
}

export const benchDefaults = { device: "auto", loraRank: 8, loraDropout: 0.05 } as const;

/** @throws PolypacaError `USAGE` for a value out of its range, or options that contradict each other */
export function resolveBenchSettings(settings: BenchSettings): ResolvedBenchSettings {
  const resolved: ResolvedBenchSettings = {
    ...settings,
    archs: settings.archs ?? null,
    presets: settings.presets ?? null,
    sequenceLength: settings.sequenceLength ?? null,
    methods: settings.methods ?? ["lora", "fft"],
    dtypes: settings.dtypes ?? null,
    device: settings.device ?? benchDefaults.device,
    loraRank: settings.loraRank ?? benchDefaults.loraRank,
    loraDropout: settings.loraDropout ?? benchDefaults.loraDropout,
    steps: settings.steps ?? null,
    keys: settings.keys ?? null,
    sweep: settings.sweep ?? null,
    kernels: settings.kernels ?? false,
    peer: settings.peer ?? false,
  };
  checkRanges(resolved);
  checkCombination(resolved);
  return resolved;
}

function refuse(message: string): never {
  throw new PolypacaError("USAGE", message);
}

function checkRanges({
  seq,
  sequenceLength,
  microBatch,
  loraRank,
  loraDropout,
  steps,
  archs,
  presets,
  methods,
  dtypes,
}: ResolvedBenchSettings): void {
  const whole = (flag: string, value: number | null | undefined, least: number): void => {
    if (value === null || value === undefined || (Number.isSafeInteger(value) && value >= least)) return;
    refuse(`${flag} ${value}: expected a whole number, at least ${least}.`);
  };
  whole("--seq", seq, 2);
  whole("--sequence-length", sequenceLength, 2);
  whole("--micro-batch", microBatch, 1);
  whole("--lora-rank", loraRank, 1);
  whole("--steps", steps, 0);
  if (!(loraDropout >= 0 && loraDropout < 1)) refuse(`--lora-dropout ${loraDropout}: expected a number, at least 0, below 1.`);
  const lists = { "--arch": archs, "--preset": presets, "--method": methods, "--dtype": dtypes };
  for (const [flag, list] of Object.entries(lists)) {
    if (list?.length === 0) refuse(`${flag}: expected at least one. Leave it out for the default.`);
  }
}

function checkCombination({ steps, kernels, sweep, archs, presets, peer, sequenceLength, device }: ResolvedBenchSettings): void {
  if (steps === 0 && !kernels) refuse("--steps 0: measures nothing without --kernels. Give --steps 1 or more, or add --kernels.");
  if (steps === 0 && (sweep !== null || peer)) refuse("--steps 0: --sweep and --peer need steps. Leave --steps out.");
  if (peer && sequenceLength !== null) {
    refuse("--peer: has no mask that keeps the sequences of a packed row apart. Leave out --peer or --sequence-length.");
  }
  const models = Math.max(archs?.length ?? 1, presets?.length ?? 1);
  if (sweep !== null && models > 1) refuse(`--sweep: one model at a time, here are ${models}. Give one (default with --sweep: bloom).`);
  // As `isCuda` of native/model.ts, which would load more than the CLI needs to show its defaults.
  if (kernels && device.startsWith("cuda")) refuse("--kernels: times the CPU's kernels, one by one. Leave out --device, or --kernels.");
}
