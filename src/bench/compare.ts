/** `--compare`: this run against a saved one, case by case, with the noise of both. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { BenchReport } from "./report.js";

/** Below this no difference is taken for real: code placement alone moves steps by as much. */
const leastNoise = 0.02;

const caseSchema = z.object({
  key: z.string(),
  tokensPerSecond: z.number().positive(),
  stepSeconds: z.number().positive(),
  stepSecondsLow: z.number().positive(),
  stepSecondsHigh: z.number().positive(),
  peakMemoryBytes: z.number().positive(),
});

const savedSchema = z.object({
  machine: z.object({ cpu: z.string(), threads: z.number(), isa: z.string(), gemm: z.string() }),
  gemmPeak: z.object({ fp32: z.number().positive().nullable(), bf16: z.number().positive().nullable() }),
  cases: z.array(caseSchema),
});

/** What a comparison needs of a run; a BenchReport is one. */
export interface SavedRun {
  readonly machine: Pick<BenchReport["machine"], "cpu" | "threads" | "isa" | "gemm">;
  readonly gemmPeak: BenchReport["gemmPeak"];
  readonly cases: readonly SavedCase[];
}

export type SavedCase = Pick<
  BenchReport["cases"][number],
  "key" | "tokensPerSecond" | "stepSeconds" | "stepSecondsLow" | "stepSecondsHigh" | "peakMemoryBytes"
>;

export type Verdict = "faster" | "slower" | "within noise";

export interface ComparedCase {
  readonly key: string;
  readonly tokensPerSecondBefore: number;
  readonly tokensPerSecondNow: number;
  /** Now over before, in tokens/s: above 1 is faster. */
  readonly ratio: number;
  /** A ratio within 1 ± this may be chance: half the interquartile range of either run's step time, over its median, added up; at least 0.02. */
  readonly noise: number;
  readonly verdict: Verdict;
  /** Now over before. */
  readonly peakMemory: number;
}

export interface Comparison {
  /** What of the machine or the build differs, a line each; ratios across machines say little. */
  readonly differences: readonly string[];
  /** Now over before: how much of a difference is the machine's own. null where either run has none. */
  readonly gemmPeak: { readonly fp32: number | null; readonly bf16: number | null };
  readonly cases: readonly ComparedCase[];
  readonly onlyBefore: readonly string[];
  readonly onlyNow: readonly string[];
  readonly slower: number;
}

/** @throws PolypacaError `NOT_FOUND`, `IO`, `BAD_DATA` where the file is not what `--save` writes */
export async function readSavedRun(path: string): Promise<SavedRun> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const { code, message } = PolypacaError.from(cause);
    throw new PolypacaError(code, `--compare ${path}: ${message}. Make it with polypaca bench --save ${path}.`, { cause });
  }
  try {
    return savedSchema.parse(JSON.parse(text));
  } catch (cause) {
    const detail =
      cause instanceof z.ZodError ? cause.issues.map(({ path: at, message }) => `${at.join(".")}: ${message}`)[0] : String(cause);
    throw new PolypacaError("BAD_DATA", `--compare ${path}: not a file that polypaca bench --save wrote (${detail}).`, { cause });
  }
}

export function compareRuns(before: SavedRun, now: SavedRun): Comparison {
  const old = new Map(before.cases.map((result) => [result.key, result]));
  const cases = now.cases.flatMap((result) => {
    const previous = old.get(result.key);
    return previous ? [compareCase(previous, result)] : [];
  });
  const keys = new Set(now.cases.map(({ key }) => key));
  return {
    differences: machineDifferences(before.machine, now.machine),
    gemmPeak: {
      fp32: ratioOf(now.gemmPeak.fp32, before.gemmPeak.fp32),
      bf16: ratioOf(now.gemmPeak.bf16, before.gemmPeak.bf16),
    },
    cases,
    onlyBefore: before.cases.map(({ key }) => key).filter((key) => !keys.has(key)),
    onlyNow: now.cases.map(({ key }) => key).filter((key) => !old.has(key)),
    slower: cases.filter(({ verdict }) => verdict === "slower").length,
  };
}

function ratioOf(now: number | null, before: number | null): number | null {
  return now === null || before === null ? null : now / before;
}

function compareCase(before: SavedCase, now: SavedCase): ComparedCase {
  const ratio = now.tokensPerSecond / before.tokensPerSecond;
  const noise = Math.max(leastNoise, noiseOf(before) + noiseOf(now));
  return {
    key: now.key,
    tokensPerSecondBefore: before.tokensPerSecond,
    tokensPerSecondNow: now.tokensPerSecond,
    ...{ ratio, noise },
    verdict: ratio < 1 - noise ? "slower" : ratio > 1 + noise ? "faster" : "within noise",
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
