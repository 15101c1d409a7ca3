/** What `gpu-check` finds: the JSON file it writes. */
import type { BundleOrigin } from "../bundle/bundle.js";

export const partNames = ["doctor", "kernels", "goldens", "training", "sanitizer", "bench"] as const;
export type PartName = (typeof partNames)[number];

export interface PartResult {
  readonly name: PartName;
  readonly status: "passed" | "failed" | "skipped";
  /** A line each: what failed, or why it was skipped. */
  readonly reasons: readonly string[];
  readonly seconds: number;
  /** What was measured or compared; its form is the part's own. */
  readonly details: Readonly<Record<string, unknown>>;
}

export interface GpuCheckReport {
  readonly polypaca: string;
  /** Of the offline bundle this ran from; null in a checkout. */
  readonly bundle: BundleOrigin | null;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly device: string;
  readonly system: SystemFacts;
  /** True where no part failed. Skipped parts are named and are no passes. */
  readonly passed: boolean;
  readonly parts: readonly PartResult[];
}

export interface SystemFacts {
  readonly node: string;
  /** nvidia-smi's line per GPU: name, memory, driver, compute capability. */
  readonly gpus: readonly string[];
  /** "Cuda compilation tools, release 13.0, V13.0.48"; null without nvcc. */
  readonly nvcc: string | null;
}
