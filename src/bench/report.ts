/** The result of a bench run: what `--json` prints, `--save` keeps and `--compare` reads. */

import { causalAttendedLength, flopsPerToken, type Method } from "../families/work.js";
import type { ComputeDType, MachineInfo } from "../native/addon-types.js";
import { type BenchCase, stepSequences, stepTokens } from "./cases.js";
import type { ProductRate } from "./gemm-peak.js";
import type { KernelReport } from "./kernels.js";
import { scoredTokens } from "./live-case.js";
import type { MeasuredSteps } from "./measure-steps.js";
import type { PeerReport } from "./peer.js";
import { spreadOf } from "./statistics.js";
import type { SweepReport } from "./sweep.js";

export interface BenchReport {
  readonly machine: BenchMachine;
  /** What the cases ran on: "cpu", "cuda". */
  readonly device: string;
  /** GFLOP/s: the fastest large product of this run on that device; null for a type it does not compute in. */
  readonly gemmPeak: Readonly<Record<ComputeDType, number | null>>;
  /** CPU: GFLOP/s per product, and of the micro-kernel with its panels in the cache (null on a GPU): what no product exceeds. */
  readonly gemmProducts: Readonly<Record<ComputeDType, readonly ProductRate[]>>;
  readonly microKernelPeak: Readonly<Record<ComputeDType, number>> | null;
  /** Cases that do not fit in memory, a line each. */
  readonly leftOut: readonly string[];
  readonly cases: readonly CaseResult[];
  readonly ratios: readonly MethodRatio[];
  /** null: not asked for. */
  readonly peer: PeerReport | null;
  readonly sweep: SweepReport | null;
  readonly kernels: KernelReport | null;
  /** How this run measured, a sentence each. */
  readonly method: readonly string[];
}

export interface BenchMachine extends MachineInfo {
  readonly cpu: string;
  readonly logicalCores: number;
  readonly system: string;
  readonly node: string;
  readonly polypaca: string;
}

export interface CaseResult {
  readonly key: string;
  /** `model_type`. */
  readonly arch: string;
  /** The preset's name, or `model_type`. */
  readonly name: string;
  readonly shape: string;
  readonly method: Method;
  readonly dtype: ComputeDType;
  readonly device: string;
  readonly parameters: number;
  readonly trainableParameters: number;
  readonly tokensPerStep: number;
  /** Medians over the measured steps. */
  readonly tokensPerSecond: number;
  readonly stepSeconds: number;
  readonly forwardSeconds: number;
  readonly backwardSeconds: number;
  readonly optimizerSeconds: number;
  /** Quartiles of the step time, and how many steps were measured. */
  readonly stepSecondsLow: number;
  readonly stepSecondsHigh: number;
  readonly steps: number;
  /** CPU: VmHWM of a process of its own. GPU: the most that such a process's back end held on the device. */
  readonly peakMemoryBytes: number;
  readonly plannedMemoryBytes: number;
  readonly flopsPerToken: number;
  /** Work over time, as a share of `gemmPeak` of the same dtype. */
  readonly utilization: number;
  readonly loss: number;
}

/** LoRA against FFT on one shape and dtype. Ratios of times are medians over rounds, in each of which the two ran side by side. */
export interface MethodRatio {
  /** Of the LoRA case. */
  readonly key: string;
  readonly arch: string;
  readonly name: string;
  readonly shape: string;
  readonly dtype: ComputeDType;
  readonly device: string;
  /** LoRA / FFT. */
  readonly tokensPerSecond: number;
  /** LoRA / FFT, with quartiles. */
  readonly stepSeconds: number;
  readonly stepSecondsLow: number;
  readonly stepSecondsHigh: number;
  readonly peakMemory: number;
}

export interface CaseMeasurement {
  readonly measured: MeasuredSteps;
  readonly peakMemoryBytes: number;
  readonly plannedMemoryBytes: number;
}

/** @param gemmPeak in GFLOP/s, of the case's dtype */
export function caseResult({ measured, peakMemoryBytes, plannedMemoryBytes }: CaseMeasurement, gemmPeak: number): CaseResult {
  const { benchCase, steps } = measured;
  const { key, shape, method, dtype, device, parameters, trainableParameters } = benchCase;
  const seconds = spreadOf(steps.map((step) => step.seconds));
  const tokens = stepTokens(shape);
  const work = workOf(benchCase);
  const part = (name: "forwardSeconds" | "backwardSeconds" | "optimizerSeconds"): number =>
    spreadOf(steps.map((step) => step[name])).median;
  return {
    ...{ key, arch: shape.spec.modelType, name: shape.name, shape: shape.description, method, dtype, device },
    ...{ parameters, trainableParameters, tokensPerStep: tokens },
    tokensPerSecond: tokens / seconds.median,
    stepSeconds: seconds.median,
    forwardSeconds: part("forwardSeconds"),
    backwardSeconds: part("backwardSeconds"),
    optimizerSeconds: part("optimizerSeconds"),
    stepSecondsLow: seconds.low,
    stepSecondsHigh: seconds.high,
    steps: seconds.count,
    ...{ peakMemoryBytes, plannedMemoryBytes },
    flopsPerToken: work,
    utilization: (work * tokens) / seconds.median / (gemmPeak * 1e9),
    loss: steps.at(-1)!.loss,
  };
}

function workOf({ method, shape, lora }: BenchCase): number {
  return flopsPerToken(shape.spec, {
    method,
    rank: lora.rank,
    targets: lora.targets,
    meanAttendedLength: causalAttendedLength(stepSequences(shape)),
    scoredShare: scoredTokens(shape) / stepTokens(shape),
  });
}

/** One ratio for every shape and dtype of which both methods were measured in the same rounds. */
export function methodRatios(measurements: readonly CaseMeasurement[]): MethodRatio[] {
  return measurements.flatMap((lora) => {
    const { key, shape, dtype, device, method } = lora.measured.benchCase;
    if (method !== "lora") return [];
    const isPartner = ({ measured: { benchCase } }: CaseMeasurement): boolean =>
      benchCase.method === "fft" && benchCase.shape === shape && benchCase.dtype === dtype && benchCase.device === device;
    const fft = measurements.find(isPartner);
    if (!fft) return [];
    // Rounds pair up where both ran in one group; where they did not fit together, by their place in their own.
    const rounds = Math.min(lora.measured.steps.length, fft.measured.steps.length);
    const ratios = Array.from({ length: rounds }, (_, round) => lora.measured.steps[round]!.seconds / fft.measured.steps[round]!.seconds);
    const { median, low, high } = spreadOf(ratios);
    return {
      ...{ key, arch: shape.spec.modelType, name: shape.name, shape: shape.description, dtype, device },
      tokensPerSecond: 1 / median,
      ...{ stepSeconds: median, stepSecondsLow: low, stepSecondsHigh: high },
      peakMemory: lora.peakMemoryBytes / fft.peakMemoryBytes,
    };
  });
}
