/** `--compare`: this run against a saved one, case by case, with the noise of both. */
import { z } from "zod";
import type { ComputeDType } from "../native/addon-types.js";
import type { BenchReport } from "./report.js";
import { readSavedFile } from "./saved-file.js";

/** Below this no difference is taken for real: code placement alone moves steps by as much. */
const leastNoise = 0.02;

const caseSchema = z.object({
  key: z.string(),
  dtype: z.enum(["fp32", "bf16"]),
  tokensPerSecond: z.number().positive(),
  stepSeconds: z.number().positive(),
  stepSecondsLow: z.number().positive(),
  stepSecondsHigh: z.number().positive(),
  peakMemoryBytes: z.number().positive(),
});

const savedSchema = z.object({
  machine: z.object({ cpu: z.string(), threads: z.number(), isa: z.string(), gemm: z.string() }),
  gemmPeak: z.object({ fp32: z.number().positive().nullable(), bf16: z.number().positive().nullable() }),
  microKernelPeak: z.object({ fp32: z.number().positive(), bf16: z.number().positive() }).nullable(),
  cases: z.array(caseSchema),
});

/** What a comparison needs of a run; a BenchReport is one. */
export interface SavedRun {
  readonly machine: Pick<BenchReport["machine"], "cpu" | "threads" | "isa" | "gemm">;
  readonly gemmPeak: BenchReport["gemmPeak"];
  readonly microKernelPeak: BenchReport["microKernelPeak"];
  readonly cases: readonly SavedCase[];
}

export type SavedCase = Pick<
  BenchReport["cases"][number],
  "key" | "dtype" | "tokensPerSecond" | "stepSeconds" | "stepSecondsLow" | "stepSecondsHigh" | "peakMemoryBytes"
>;

export type Verdict = "faster" | "slower" | "within noise";

export interface ComparedCase {
  readonly key: string;
  readonly tokensPerSecondBefore: number;
  readonly tokensPerSecondNow: number;
  /** Now over before, in tokens/s: above 1 is faster. */
  readonly ratio: number;
  /** The same ratio where the case was measured again because it looked slower; null: it was not. */
  readonly ratioAgain: number | null;
  /** A ratio within 1 ± this may be chance: half the interquartile range of either run's step time, over its median, added up; at least 0.02. */
  readonly noise: number;
  /** Beyond the noise, and beyond what the machine's own speed (`microKernel`) explains; "slower" only where the second look agrees. */
  readonly verdict: Verdict;
  /** Now over before. */
  readonly peakMemory: number;
}

type TypeRatios = Readonly<Record<ComputeDType, number | null>>;

export interface Comparison {
  /** What of the machine or the build differs, a line each; ratios across machines say little. */
  readonly differences: readonly string[];
  /** Now over before: how much of a difference is the machine's own. null where either run has none. */
  readonly gemmPeak: TypeRatios;
  /** The micro-kernel with its panels in the cache, now over before: no product or layout moves it, only the machine (or a new micro-kernel). */
  readonly microKernel: TypeRatios;
  readonly cases: readonly ComparedCase[];
  readonly onlyBefore: readonly string[];
  readonly onlyNow: readonly string[];
  readonly slower: number;
}

/** @throws PolypacaError `NOT_FOUND`, `IO`, `BAD_DATA` where the file is not what `--save` writes */
export function readSavedRun(path: string): Promise<SavedRun> {
  return readSavedFile(savedSchema, path, "--compare");
}

/**
 * Measures what looks slower a second time, with models opened anew, and compares.
 *
 * @param measure runs the bench for the cases with these keys
 */
export async function compareWithSecondLook(
  before: SavedRun,
  now: SavedRun,
  measure: (keys: readonly string[]) => Promise<SavedRun>,
): Promise<Comparison> {
  const first = compareRuns(before, now);
  const slower = first.cases.filter(({ verdict }) => verdict === "slower").map(({ key }) => key);
  return slower.length === 0 ? first : compareRuns(before, now, await measure(slower));
}

/** @param again a second run of some of the cases; they are slower only where both runs are */
export function compareRuns(before: SavedRun, now: SavedRun, again?: SavedRun): Comparison {
  const find = (run: SavedRun | undefined, key: string) => run?.cases.find((result) => result.key === key);
  const cases = now.cases.flatMap((result) => {
    const previous = find(before, result.key);
    if (previous === undefined) return [];
    const first = compareCase(previous, result, machineSpeed(before, now));
    const repeated = find(again, result.key);
    if (again === undefined || repeated === undefined) return [first];
    const second = compareCase(previous, repeated, machineSpeed(before, again));
    const isSlower = first.verdict === "slower" && second.verdict === "slower";
    return [{ ...first, ratioAgain: second.ratio, verdict: isSlower ? "slower" : withoutSlower(first.verdict) } as const];
  });
  const keys = new Set(now.cases.map(({ key }) => key));
  return {
    differences: machineDifferences(before.machine, now.machine),
    gemmPeak: { fp32: ratioOf(now.gemmPeak.fp32, before.gemmPeak.fp32), bf16: ratioOf(now.gemmPeak.bf16, before.gemmPeak.bf16) },
    microKernel: machineSpeed(before, now),
    cases,
    onlyBefore: before.cases.map(({ key }) => key).filter((key) => !keys.has(key)),
    onlyNow: now.cases.map(({ key }) => key).filter((key) => find(before, key) === undefined),
    slower: cases.filter(({ verdict }) => verdict === "slower").length,
  };
}

function withoutSlower(verdict: Verdict): Verdict {
  return verdict === "slower" ? "within noise" : verdict;
}

function ratioOf(now: number | null, before: number | null): number | null {
  return now === null || before === null ? null : now / before;
}

function machineSpeed({ microKernelPeak: before }: SavedRun, { microKernelPeak: now }: SavedRun): TypeRatios {
  return { fp32: ratioOf(now?.fp32 ?? null, before?.fp32 ?? null), bf16: ratioOf(now?.bf16 ?? null, before?.bf16 ?? null) };
}

function compareCase(before: SavedCase, now: SavedCase, machine: TypeRatios): ComparedCase {
  const ratio = now.tokensPerSecond / before.tokensPerSecond;
  const noise = Math.max(leastNoise, noiseOf(before) + noiseOf(now));
  // A machine that became slower excuses a slower case, a faster one does not accuse an equal case; and the other way round.
  const speed = machine[now.dtype] ?? 1;
  const isSlower = ratio < (1 - noise) * Math.min(1, speed);
  const isFaster = ratio > (1 + noise) * Math.max(1, speed);
  return {
    key: now.key,
    tokensPerSecondBefore: before.tokensPerSecond,
    tokensPerSecondNow: now.tokensPerSecond,
    ...{ ratio, ratioAgain: null, noise },
    verdict: isSlower ? "slower" : isFaster ? "faster" : "within noise",
    peakMemory: now.peakMemoryBytes / before.peakMemoryBytes,
  };
}

function noiseOf({ stepSeconds, stepSecondsLow, stepSecondsHigh }: SavedCase): number {
  return (stepSecondsHigh - stepSecondsLow) / 2 / stepSeconds;
}

function machineDifferences(before: SavedRun["machine"], now: SavedRun["machine"]): string[] {
  return (["cpu", "threads", "isa", "gemm"] as const).flatMap((field) =>
    before[field] === now[field] ? [] : [`${field}: ${before[field]} before, ${now[field]} now`],
  );
}

/** What `--save` writes. */
export function savedText(report: BenchReport): string {
  return `${JSON.stringify(report, null, 1)}\n`;
}
