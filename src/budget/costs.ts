/** What records cost: in examples, in tokens as `train` sees them, and in floating-point operations of training on them once. */
import { attendedPairs, type TrainingWork } from "../families/work.js";

/** What a budget counts: records (the study's), tokens of a tokenizer, or floating-point operations of a model. */
export type BudgetUnit = "examples" | "tokens" | "flops";

export const budgetUnits = ["examples", "tokens", "flops"] as const satisfies readonly BudgetUnit[];

/** Of one pass over the data: a run costs this times its epochs. */
export interface Cost {
  readonly examples: number;
  /** null: no tokenizer was given. */
  readonly tokens: number | null;
  /** null: no model was given. */
  readonly flops: number | null;
}

/** What the tokens of a file's records are, by record: BOS, EOS and cutoff as `train` has them. */
export interface TokenCounts {
  readonly tokens: Int32Array;
  /** Those that carry loss. */
  readonly targetTokens: Int32Array;
  /** 1: cut at the cutoff. */
  readonly truncated: Int32Array;
}

/** What one pass over some records goes through; each kind of work is proportional to one of these. */
export interface Workload {
  readonly examples: number;
  readonly tokens: number;
  /** Those that carry loss. */
  readonly targetTokens: number;
  /** Pairs of a query and a key that it attends to. */
  readonly attendedPairs: number;
}

type Sums = Omit<Workload, "examples">;

/**
 * The cost of each of `count` records in one unit. Whole numbers in all three, so that sums of any length are exact in bigint and
 * "does not exceed the budget" means that; FLOPs of a whole data set are beyond what a double holds exactly.
 *
 * @param counts needed for tokens and FLOPs
 * @param work needed for FLOPs
 */
export function recordCosts(unit: BudgetUnit, count: number, counts: TokenCounts | null, work: TrainingWork | null): BigInt64Array {
  const costs = new BigInt64Array(count).fill(1n);
  if (unit === "examples") return costs;
  for (let i = 0; i < count; i++) {
    const tokens = counts!.tokens[i]!;
    const sums = { tokens, targetTokens: counts!.targetTokens[i]!, attendedPairs: attendedPairs([tokens]) };
    costs[i] = unit === "tokens" ? BigInt(tokens) : flopsOf(sums, work!);
  }
  return costs;
}

function flopsOf({ tokens, targetTokens, attendedPairs }: Sums, work: TrainingWork): bigint {
  return (
    BigInt(work.perToken) * BigInt(tokens) +
    BigInt(work.perTargetToken) * BigInt(targetTokens) +
    BigInt(work.perAttendedPair) * BigInt(attendedPairs)
  );
}

/** The cost of `records`, a record named twice counting twice. */
export function costOf(records: Int32Array, counts: TokenCounts | null, work: TrainingWork | null): Cost {
  if (counts === null) return { examples: records.length, tokens: null, flops: null };
  const workload = workloadOf(records, counts);
  return { examples: records.length, tokens: workload.tokens, flops: work && Number(flopsOf(workload, work)) };
}

/** Of `records`, a record named twice counting twice. */
export function workloadOf(records: Int32Array, counts: TokenCounts): Workload {
  const sums = { tokens: 0, targetTokens: 0, attendedPairs: 0 };
  for (const record of records) {
    const tokens = counts.tokens[record]!;
    sums.tokens += tokens;
    sums.targetTokens += counts.targetTokens[record]!;
    sums.attendedPairs += attendedPairs([tokens]);
  }
  return { examples: records.length, ...sums };
}

/** Floating-point operations of one pass, also over the fractions of a workload that predictions have. */
export function workloadFlops({ tokens, targetTokens, attendedPairs }: Workload, work: TrainingWork): number {
  return tokens * work.perToken + targetTokens * work.perTargetToken + attendedPairs * work.perAttendedPair;
}

export function addCosts(costs: readonly Cost[]): Cost {
  const sum = (unit: BudgetUnit): number | null =>
    costs.reduce<number | null>((total, cost) => (total === null || cost[unit] === null ? null : total + cost[unit]), 0);
  return { examples: sum("examples") ?? 0, tokens: sum("tokens"), flops: sum("flops") };
}

/** A share of a cost: C is the N-th part of N x C, not always a whole number. */
export function divideCost(cost: Cost, by: number): Cost {
  const part = (value: number | null): number | null => value && value / by;
  return { examples: cost.examples / by, tokens: part(cost.tokens), flops: part(cost.flops) };
}
