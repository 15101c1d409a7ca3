/** Shapes and results that several tests of the bench use. */
import type { BenchShapeFlags } from "../../src/bench/cases.js";
import type { BenchReport, CaseResult } from "../../src/bench/report.js";

export const noShapeFlags: BenchShapeFlags = { archs: null, presets: null, seq: 256, sequenceLength: null, microBatch: 4 };

/** A case as a run would report it, one second a step; `key` tells it apart. */
export function caseResult(key: string, changes: Partial<CaseResult> = {}): CaseResult {
  return {
    key,
    ...{ arch: "bloom", name: "bloom", shape: "bloom, 4 x 256 tokens", method: "lora", dtype: "bf16", device: "cpu" },
    ...{ parameters: 1000, trainableParameters: 10, tokensPerStep: 1024, tokensPerSecond: 1024 },
    ...{ stepSeconds: 1, stepSecondsLow: 0.99, stepSecondsHigh: 1.01, steps: 9 },
    ...{ forwardSeconds: 0.4, backwardSeconds: 0.5, optimizerSeconds: 0.1, peakMemoryBytes: 2 ** 28, plannedMemoryBytes: 2 ** 27 },
    ...{ flopsPerToken: 4000, utilization: 0.7, loss: 5 },
    ...changes,
  };
}

export function report(changes: Partial<BenchReport>): BenchReport {
  const machine = {
    ...{ cpu: "A CPU", logicalCores: 2, system: "linux", node: "v20", polypaca: "0.1.0", isa: "avx512", bf16Dot: true, amxBf16: false },
    ...{
      gemm: "portable",
      onednn: "",
      threads: 2,
      fastText: false,
      memoryAvailable: 1,
      memoryTotal: 1,
      memoryLimitedBy: "free memory",
      cuda: "not built",
      cudaDevices: [],
      cudaEmulator: false,
    },
  };
  return {
    machine,
    device: "cpu",
    gemmPeak: { fp32: 200, bf16: 400 },
    gemmProducts: { fp32: [], bf16: [] },
    microKernelPeak: { fp32: 230, bf16: 460 },
    ...{ cases: [], leftOut: [], ratios: [], peer: null, sweep: null, kernels: null, method: [] },
    ...changes,
  };
}
