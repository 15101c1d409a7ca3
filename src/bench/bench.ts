/** `polypaca bench`: LoRA against FFT on this machine. Decides what is measured and in what order, and gathers the report. */
import { cpus, platform, release } from "node:os";
import { Writable } from "node:stream";
import { PolypacaError } from "../errors.js";
import type { Addon, ComputeDType } from "../native/addon-types.js";
import { loadAddon } from "../native/load.js";
import { isCuda, resolveDevice, resolveDType } from "../native/model.js";
import { openProgress, type Progress, type ProgressOutput } from "../train/progress.js";
import { type BenchCase, type BenchShape, type BenchShapeFlags, benchCases, benchShapes, type CaseFlags, usualShapes } from "./cases.js";
import { GemmPeak } from "./gemm-peak.js";
import { type KernelReport, type KernelResult, kernelPlans, measureBandwidth, measureKernels } from "./kernels.js";
import { measureSteps } from "./measure-steps.js";
import { availableOn, groupByMemory, type PlannedCase, planCases } from "./memory-fit.js";
import { methodNotes } from "./method-notes.js";
import { measurePeakMemory } from "./peak-memory.js";
import { absentPeer, Peer, type PeerReport } from "./peer.js";
import { type BenchMachine, type BenchReport, type CaseMeasurement, caseResult, methodRatios } from "./report.js";
import { type BenchSettings, type ResolvedBenchSettings, resolveBenchSettings } from "./settings.js";
import { type SweptCase, sweepReport, sweptCases } from "./sweep.js";

export interface BenchEnvironment {
  /** Where progress goes. Default: nowhere. */
  readonly output?: ProgressOutput | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Time for the measured steps of a whole run, where their number is not given. */
const budgetSeconds = 42;
/** Of the free memory, what models may take together: the children that measure peak memory, and the peer, want the rest. */
const shareOfMemory = { alone: 0.8, withPeer: 0.5 };
/** Of a run, the rounds before which the peer takes its turn: first, middle, last. */
const peerRounds = 3;

/** Progress of a program that asked for none. Nothing is shown, so that no clock is needed. */
const silent: ProgressOutput = { stream: new Writable({ write: (_chunk, _encoding, done) => done() }), isTerminal: false, now: () => 0 };

/**
 * Measures LoRA against FFT on this machine, as `polypaca bench` does: see docs/bench.md for how, and for what the figures mean.
 * Takes minutes, all cores and as much memory as the models need; peak memory is read from child processes.
 *
 * @throws PolypacaError `USAGE`, `BAD_CONFIG`, `INVALID_ARGUMENT` for settings that cannot be; `UNSUPPORTED` for a device that is not
 *   there; `OUT_OF_MEMORY`, before anything is allocated, for what does not fit (on a GPU, where some cases fit, the others are left out
 *   and named); `CANCELLED`
 */
export async function runBench(asked: BenchSettings = {}, { output = silent, signal }: BenchEnvironment = {}): Promise<BenchReport> {
  const settings = resolveBenchSettings(asked);
  const addon = loadAddon();
  const device = resolveDevice(addon, settings.device, settings.dtypes?.length === 1 ? settings.dtypes[0] : undefined);
  if (settings.kernels && isCuda(device)) {
    throw new PolypacaError(
      "USAGE",
      `--kernels: times the CPU's kernels, and the device here is ${device}. Add --device cpu, or leave --kernels out.`,
    );
  }
  const { cases, swept } = onlyKeys(chosenCases(addon, settings, device), settings.keys);
  const { planned, leftOut } = planCases(addon, cases, settings.sweep === null && isCuda(device));
  for (const line of leftOut) output.stream.write(`left out: ${line}\n`);
  const run = new BenchRun(addon, { ...settings, device }, output, signal);
  const timesSteps = settings.steps !== 0;
  const measurements = timesSteps ? await run.measureCases(planned) : [];
  if (!timesSteps) await run.gemm.sample();
  const kernels = settings.kernels ? await run.measureKernels(cases) : null;
  const gemmPeak = { fp32: run.gemm.peak("fp32"), bf16: run.gemm.peak("bf16") };
  const results = measurements.map((measurement) => caseResult(measurement, gemmPeak[measurement.measured.benchCase.dtype]!));
  return {
    machine: describeMachine(addon),
    device,
    gemmPeak,
    gemmProducts: { fp32: run.gemm.products("fp32"), bf16: run.gemm.products("bf16") },
    microKernelPeak: run.gemm.microKernel(),
    cases: results,
    leftOut,
    ratios: methodRatios(measurements),
    peer: run.peerReport(new Map(results.map((result) => [result.key, result])), cases),
    sweep: settings.sweep && timesSteps ? sweepReport(settings.sweep, settings.sequenceLength, swept, results) : null,
    kernels,
    method: run.describeMethod(measurements),
  };
}

interface ChosenCases {
  readonly cases: readonly BenchCase[];
  readonly swept: readonly SweptCase[];
}

function onlyKeys({ cases, swept }: ChosenCases, keys: readonly string[] | null): ChosenCases {
  if (keys === null) return { cases, swept };
  const chosen = cases.filter(({ key }) => keys.includes(key));
  if (chosen.length === 0)
    throw new PolypacaError("USAGE", `keys: none of ${cases.length} cases has one of them. Take them from a report.`);
  return { cases: chosen, swept: swept.filter(({ benchCase }) => keys.includes(benchCase.key)) };
}

function chosenCases(addon: Addon, settings: ResolvedBenchSettings, device: string): ChosenCases {
  const isLong = settings.peer || settings.sweep !== null || isCuda(device);
  const usual: readonly ComputeDType[] = isLong ? [resolveDType(addon, undefined, device)] : ["bf16", "fp32"];
  const dtypes = (settings.dtypes ?? usual).map((dtype) => resolveDType(addon, dtype, device));
  const caseFlags: CaseFlags = { ...settings, dtypes, device };
  const shapeFlags = shapeFlagsOf(settings, device);
  if (settings.sweep === null) return { cases: benchCases(benchShapes(shapeFlags), caseFlags), swept: [] };
  const swept = sweptCases(settings.sweep, shapeFlags, caseFlags);
  return { cases: swept.map(({ benchCase }) => benchCase), swept };
}

/** The device's usual models stand in where no model and no size was asked for. */
function shapeFlagsOf(settings: ResolvedBenchSettings, device: string): BenchShapeFlags {
  const usual = usualShapes(device);
  const { archs, presets, hidden, layers, sweep, seq = usual.seq, microBatch = usual.microBatch } = settings;
  const isOpen = archs === null && presets === null && hidden === undefined && layers === undefined && sweep === null;
  return { ...settings, presets: isOpen ? usual.presets : presets, seq, microBatch };
}

/** One run's instruments: what they gather on the way ends up in the report. */
class BenchRun {
  readonly gemm: GemmPeak;
  readonly #addon: Addon;
  readonly #settings: ResolvedBenchSettings;
  readonly #output: ProgressOutput;
  readonly #signal: AbortSignal | undefined;
  #peer: Peer | { readonly problem: string } | null = null;
  #groups = 1;

  constructor(addon: Addon, settings: ResolvedBenchSettings, output: ProgressOutput, signal: AbortSignal | undefined) {
    this.#addon = addon;
    this.#settings = settings;
    this.#output = output;
    this.#signal = signal;
    this.gemm = new GemmPeak(addon, settings.device);
  }

  async measureCases(planned: readonly PlannedCase[]): Promise<CaseMeasurement[]> {
    if (this.#settings.peer) await this.#findPeer(planned);
    const peaks = await this.#peakMemory(planned);
    const share = this.#settings.peer && !this.#onGpu ? shareOfMemory.withPeer : shareOfMemory.alone;
    const groups = groupByMemory(planned, share * availableOn(this.#addon, this.#settings.device));
    this.#groups = groups.length;
    const measurements: CaseMeasurement[] = [];
    for (const [i, group] of groups.entries()) {
      const cases = group.map(({ benchCase }) => benchCase);
      if (this.#onGpu) await this.#peerOnGpu(cases);
      const measured = await this.#stepsOf(cases, groups.length === 1 ? "steps" : `steps, group ${i + 1} of ${groups.length}`);
      for (const [j, { benchCase, plannedBytes }] of group.entries()) {
        measurements.push({ measured: measured[j]!, peakMemoryBytes: peaks.get(benchCase)!, plannedMemoryBytes: plannedBytes });
      }
    }
    return measurements;
  }

  get #onGpu(): boolean {
    return isCuda(this.#settings.device);
  }

  /** While none of our models takes the GPU's memory: the largest fit beside nothing. */
  async #peerOnGpu(cases: readonly BenchCase[]): Promise<void> {
    if (!(this.#peer instanceof Peer)) return;
    this.#output.stream.write(`PyTorch: ${cases.map(labelOf).join(", ")}\n`);
    await this.#peer.round(cases, this.#signal);
  }

  async #findPeer(planned: readonly PlannedCase[]): Promise<void> {
    this.#peer = await Peer.find(
      planned.map(({ benchCase }) => benchCase),
      this.#addon.machine().threads,
    );
    if ("problem" in this.#peer) this.#output.stream.write(`${this.#peer.problem}\n`);
  }

  async #peakMemory(planned: readonly PlannedCase[]): Promise<Map<BenchCase, number>> {
    const progress = openProgress({ label: "peak memory", start: 0, total: planned.length }, this.#output);
    const peaks = new Map<BenchCase, number>();
    try {
      for (const [i, { benchCase }] of planned.entries()) {
        progress.update(i, labelOf(benchCase));
        peaks.set(benchCase, await measurePeakMemory(benchCase, this.#signal));
      }
      progress.update(planned.length, "done");
    } finally {
      progress.stop();
    }
    return peaks;
  }

  async #stepsOf(cases: readonly BenchCase[], label: string): ReturnType<typeof measureSteps> {
    let progress: Progress | undefined;
    const between = async (round: number, rounds: number): Promise<void> => {
      progress ??= openProgress({ label, start: 0, total: rounds }, this.#output);
      progress.update(round, `${cases.length} cases in turn`);
      await this.gemm.sample();
      const turns = new Set(Array.from({ length: peerRounds }, (_, turn) => Math.round((turn * rounds) / (peerRounds - 1))));
      if (this.#peer instanceof Peer && !this.#onGpu && turns.has(round)) await this.#peer.round(cases, this.#signal);
    };
    const plan = { rounds: this.#settings.steps, budgetSeconds: budgetSeconds / this.#groups };
    try {
      return await measureSteps(cases, plan, { between, signal: this.#signal });
    } finally {
      progress?.stop();
    }
  }

  /** One case per shape and dtype stands for its kernels. */
  async measureKernels(cases: readonly BenchCase[]): Promise<KernelReport> {
    const seen = new Map<BenchShape, Set<ComputeDType>>();
    const chosen = cases.filter(({ shape, dtype }) => {
      const dtypes = seen.get(shape) ?? new Set();
      seen.set(shape, dtypes);
      const isNew = !dtypes.has(dtype);
      dtypes.add(dtype);
      return isNew;
    });
    const bandwidth = await measureBandwidth(this.#addon);
    const total = chosen.reduce((sum, { shape, dtype, lora }) => sum + kernelPlans(shape, dtype, lora).length, 0);
    const progress = openProgress({ label: "kernels", start: 0, total }, this.#output);
    const kernels: KernelResult[] = [];
    try {
      let done = 0;
      for (const benchCase of chosen) {
        const rates = { gemmPeak: this.gemm.peak(benchCase.dtype)!, bandwidth };
        const onKernel = (kernel: string): void => {
          if (this.#signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while measuring kernels");
          progress.update(done++, `${benchCase.shape.name} ${benchCase.dtype}, ${kernel}`);
        };
        kernels.push(...(await measureKernels(this.#addon, benchCase, rates, onKernel)));
      }
      progress.update(total, "done");
    } finally {
      progress.stop();
    }
    return { bandwidth, kernels };
  }

  peerReport(results: Parameters<Peer["report"]>[0], cases: readonly BenchCase[]): PeerReport | null {
    if (this.#peer === null) return null;
    return this.#peer instanceof Peer ? this.#peer.report(results, cases) : absentPeer(this.#peer.problem);
  }

  describeMethod(measurements: readonly CaseMeasurement[]): string[] {
    return methodNotes({
      onGpu: this.#onGpu,
      threads: this.#addon.machine().threads,
      steps: measurements.map(({ measured }) => measured.steps.length),
      groups: this.#groups,
      peakSamples: this.gemm.samples,
      hasPeer: this.#peer instanceof Peer,
    });
  }
}

function labelOf({ shape, method, dtype }: BenchCase): string {
  return `${shape.name} ${method} ${dtype}`;
}

function describeMachine(addon: Addon): BenchMachine {
  const cores = cpus();
  return {
    ...addon.machine(),
    cpu: cores[0]?.model.trim() ?? "unknown",
    logicalCores: cores.length,
    system: `${platform()} ${release()} ${process.arch}`,
    node: process.version,
    polypaca: addon.version,
  };
}
