/** `--sweep`: one size varies, everything else stays, and the table says how the cost per token grows. */
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";
import { type BenchCase, type BenchShape, type BenchShapeFlags, benchCases, benchShapes, type CaseFlags } from "./cases.js";
import type { CaseResult } from "./report.js";

export const sweepParameters = ["hidden", "layers", "seq", "rank", "micro-batch"] as const;
export type SweepParameter = (typeof sweepParameters)[number];

export interface SweepSettings {
  readonly parameter: SweepParameter;
  /** Ascending. */
  readonly values: readonly number[];
}

export interface SweepReport {
  readonly parameter: SweepParameter;
  /** Of the first point. */
  readonly shape: string;
  /** Tokens of the sequences packed into each row; null: a row is one sequence. */
  readonly sequenceLength: number | null;
  readonly points: readonly SweepPoint[];
}

export interface SweepPoint {
  readonly value: number;
  readonly method: Method;
  readonly dtype: string;
  readonly microsecondsPerToken: number;
  /** Quartiles over the steps. */
  readonly microsecondsPerTokenLow: number;
  readonly microsecondsPerTokenHigh: number;
  readonly tokensPerSecond: number;
  readonly peakMemoryBytes: number;
  readonly utilization: number;
  /** Cost per token over that of the smallest value, same method and dtype. */
  readonly growth: number;
}

const usualValues: Readonly<Record<SweepParameter, readonly number[]>> = {
  hidden: [256, 512, 768, 1024],
  layers: [2, 4, 8, 12],
  seq: [128, 256, 512, 1024, 2048, 4096],
  rank: [2, 8, 32, 128],
  "micro-batch": [1, 2, 4, 8],
};

/**
 * Reads `seq` or `seq=128,256,512`.
 *
 * @throws PolypacaError `USAGE`
 */
export function parseSweep(text: string): SweepSettings {
  const [name = "", list, ...rest] = text.split("=");
  const parameter = sweepParameters.find((candidate) => candidate === name);
  if (parameter === undefined || rest.length > 0) {
    throw new PolypacaError("USAGE", `--sweep ${text}: expected ${sweepParameters.join(" or ")}, then where wanted =N,N,…`);
  }
  if (list === undefined) return { parameter, values: usualValues[parameter] };
  const values = list.split(",").map(Number);
  if (values.some((value) => !Number.isSafeInteger(value) || value < 1)) {
    throw new PolypacaError("USAGE", `--sweep ${text}: expected whole numbers of at least 1 between commas.`);
  }
  return { parameter, values: [...new Set(values)].sort((a, b) => a - b) };
}

export interface SweptCase {
  readonly value: number;
  readonly benchCase: BenchCase;
}

/**
 * The cases of a sweep. With `seq`, a micro-batch holds as many rows as make up the same number of tokens (at least one), so
 * that their length alone varies; a `sequenceLength` of the flags stays, and rows hold more sequences of it. FFT has no rank: a rank sweep measures it once.
 */
export function sweptCases({ parameter, values }: SweepSettings, shapeFlags: BenchShapeFlags, caseFlags: CaseFlags): SweptCase[] {
  const shapeFor = (change: Partial<BenchShapeFlags>): BenchShape => benchShapes({ ...shapeFlags, ...change })[0]!;
  if (parameter === "rank") {
    const shape = shapeFor({});
    return values.flatMap((value, i) => {
      const methods = i === 0 ? caseFlags.methods : caseFlags.methods.filter((method) => method === "lora");
      return benchCases([shape], { ...caseFlags, methods, loraRank: value }).map((benchCase) => ({ value, benchCase }));
    });
  }
  const tokens = shapeFlags.seq * shapeFlags.microBatch;
  return values.flatMap((value) => {
    const changes: Readonly<Record<Exclude<SweepParameter, "rank">, Partial<BenchShapeFlags>>> = {
      hidden: { hidden: value },
      layers: { layers: value },
      seq: { seq: value, microBatch: Math.max(1, Math.round(tokens / value)) },
      "micro-batch": { microBatch: value },
    };
    return benchCases([shapeFor(changes[parameter])], caseFlags).map((benchCase) => ({ value, benchCase }));
  });
}

export function sweepReport(
  { parameter }: SweepSettings,
  sequenceLength: number | null,
  swept: readonly SweptCase[],
  results: readonly CaseResult[],
): SweepReport {
  const byKey = new Map(results.map((result) => [result.key, result]));
  const first = new Map<string, number>();
  const points = swept.map(({ value, benchCase }): SweepPoint => {
    const result = byKey.get(benchCase.key)!;
    const { method, dtype, tokensPerStep, stepSeconds, stepSecondsLow, stepSecondsHigh, tokensPerSecond, peakMemoryBytes, utilization } =
      result;
    const perToken = (seconds: number): number => (seconds / tokensPerStep) * 1e6;
    const cost = perToken(stepSeconds);
    const line = `${method} ${dtype}`;
    if (!first.has(line)) first.set(line, cost);
    return {
      ...{ value, method, dtype },
      microsecondsPerToken: cost,
      microsecondsPerTokenLow: perToken(stepSecondsLow),
      microsecondsPerTokenHigh: perToken(stepSecondsHigh),
      ...{ tokensPerSecond, peakMemoryBytes, utilization },
      growth: cost / first.get(line)!,
    };
  });
  return { parameter, shape: swept[0]!.benchCase.shape.description, sequenceLength, points };
}
