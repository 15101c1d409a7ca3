/** The four conditions: which records go into which training file. */
import { PolypacaError } from "../errors.js";
import type { BudgetUnit } from "./costs.js";
import type { MixSettings } from "./mix-settings.js";
import {
  disjointSample,
  equalDisjointSample,
  equalSample,
  parallelSample,
  randomSample,
  type Sample,
  type SeedTable,
  type Stratum,
  stratifiedSample,
} from "./sampling.js";

/** A training file: records of each language, in file order. */
export interface PlannedFile {
  readonly name: string;
  /** By language; empty for those that are not in it. Where English is repeated, records come again in the same order. */
  readonly parts: Sample;
  /** Lines of all languages in random order; else one language's, in its order. */
  readonly isShuffled: boolean;
}

export interface MixPlan {
  readonly files: readonly PlannedFile[];
  /** By language: the records that the budget is computed from; all of them unless `perLanguage` takes less. */
  readonly pool: Sample;
  /** What a file was filled up to, in the budget's unit; null: nothing was. */
  readonly target: bigint | null;
}

/**
 * Chooses the records of a condition.
 *
 * @param strata the languages by code, ascending, with the records' costs in the budget's unit
 * @param seeds which records are the same instruction; for `disjoint`
 * @throws PolypacaError `USAGE` where more is asked for than there is, or less than one record, or English is needed and not there
 */
export function planMix(settings: MixSettings, strata: readonly Stratum[], seeds: SeedTable): MixPlan {
  const { condition, perLanguage, seed = 42, budget = "examples" } = settings;
  if (perLanguage !== undefined) refuseSmaller(strata, BigInt(perLanguage), budget);
  if (condition === "downsampled") return downsampled(settings, strata, seeds);
  const pool = strata.map(({ costs }) =>
    perLanguage === undefined ? allOf(costs) : nonEmpty(parallelSample(costs, BigInt(perLanguage), seed), `--per-language ${perLanguage}`),
  );
  const only = (stratum: number, records: Int32Array): Sample => strata.map((_, i) => (i === stratum ? records : new Int32Array()));
  const monolingual = strata.map(({ language }, i) => ({ name: `${language}.jsonl`, parts: only(i, pool[i]!), isShuffled: false }));
  if (condition === "monolingual") return { files: monolingual, pool, target: null };
  if (condition === "multilingual") return { files: [{ name: "multilingual.jsonl", parts: pool, isShuffled: true }], pool, target: null };
  const english = strata.findIndex(({ language }) => language === "en");
  if (english < 0) {
    const languages = strata.map(({ language }) => language).join(",");
    throw new PolypacaError("USAGE", `--condition english: English (en) is not among the languages (${languages}). Add it to --langs.`);
  }
  const target = englishTarget(settings, strata, pool);
  if (target === null) return { files: [monolingual[english]!], pool, target };
  const records = fitEnglish(settings, strata[english]!, pool[english]!, target);
  return { files: [{ ...monolingual[english]!, parts: only(english, records) }], pool, target };
}

function allOf(costs: BigInt64Array): Int32Array {
  return Int32Array.from(costs, (_, record) => record);
}

/** Of the records of a pool, exact. */
export function poolCost(strata: readonly Stratum[], pool: Sample): bigint {
  return pool.reduce((sum, records, i) => records.reduce((part, record) => part + strata[i]!.costs[record]!, sum), 0n);
}

function downsampled(settings: MixSettings, strata: readonly Stratum[], seeds: SeedTable): MixPlan {
  const { size, perLanguage, seed = 42, budget = "examples" } = settings;
  const pool = strata.map(({ costs }) => allOf(costs));
  const whole = poolCost(strata, pool);
  const { sampling = perLanguage === undefined ? "random" : "stratified" } = settings;
  const plan = (parts: Sample, target: bigint, flag: string): MixPlan => {
    nonEmpty(Int32Array.from(parts.flatMap((part) => [...part])), flag);
    return { files: [{ name: "downsampled.jsonl", parts, isShuffled: true }], pool, target };
  };
  if (perLanguage !== undefined) {
    const quota = BigInt(perLanguage);
    const parts = sampling === "disjoint" ? equalDisjointSample(strata, seeds, quota, seed) : equalSample(strata, quota, seed);
    return plan(parts, quota * BigInt(strata.length), `--per-language ${perLanguage}`);
  }
  const target = size === undefined ? whole / BigInt(strata.length) : BigInt(size);
  const most = sampling === "disjoint" ? dearest(strata, seeds) : whole;
  if (target > most) {
    const limit = sampling === "disjoint" ? `the ${seeds.count} seed records, each in one language, have` : "the data has";
    throw new PolypacaError("USAGE", `--size ${size}: larger than ${limit} (${most} ${budget}). Lower it.`);
  }
  const draw = { random: randomSample, stratified: stratifiedSample };
  const parts = sampling === "disjoint" ? disjointSample(strata, seeds, target, seed) : draw[sampling](strata, target, seed);
  return plan(parts, target, size === undefined ? `the budget of ${target} ${budget}` : `--size ${size}`);
}

/** The most that all seeds can cost, each in one language. */
function dearest(strata: readonly Stratum[], { count, recordOf }: SeedTable): bigint {
  let sum = 0n;
  for (let item = 0; item < count; item++) {
    const costs = recordOf.map((records, i) => (records[item]! < 0 ? 0n : strata[i]!.costs[records[item]!]!));
    sum += costs.reduce((most, cost) => (cost > most ? cost : most));
  }
  return sum;
}

/** What `english` is fitted to; null: it stays whole. */
function englishTarget({ size, matchBudget }: MixSettings, strata: readonly Stratum[], pool: Sample): bigint | null {
  if (size !== undefined) return BigInt(size);
  return matchBudget === true ? poolCost(strata, pool) / BigInt(strata.length) : null;
}

/** More is a slip of the pen: a training has fewer epochs. */
const mostPasses = 1000n;

/** Trims English, or repeats it: whole passes, then the beginning of the same random order that trimming takes. */
function fitEnglish(settings: MixSettings, { costs }: Stratum, pool: Int32Array, target: bigint): Int32Array {
  const { seed = 42, size, matchBudget, budget = "examples" } = settings;
  const cost = pool.reduce((sum, record) => sum + costs[record]!, 0n);
  if (target > cost && matchBudget !== true) {
    throw new PolypacaError(
      "USAGE",
      `--size ${size}: larger than the English data (${cost} ${budget}). Lower it, or pass --match-budget to repeat records.`,
    );
  }
  if (target / cost > mostPasses) {
    throw new PolypacaError("USAGE", `--size ${size}: English (${cost} ${budget}) would be repeated ${target / cost} times. Lower it.`);
  }
  const passes = Array.from({ length: Number(target / cost) }, () => pool);
  const poolCosts = BigInt64Array.from(pool, (record) => costs[record]!);
  const last = parallelSample(poolCosts, target % cost, seed).map((i) => pool[i]!);
  const records = Int32Array.from([...passes, last].flatMap((pass) => [...pass]));
  return nonEmpty(records, size === undefined ? "--match-budget" : `--size ${size}`);
}

function refuseSmaller(strata: readonly Stratum[], quota: bigint, unit: BudgetUnit): void {
  const sums = strata.map(({ language, costs }) => ({ language, cost: costs.reduce((sum, cost) => sum + cost, 0n) }));
  const small = sums.filter(({ cost }) => cost < quota);
  if (small.length === 0) return;
  const list = small.map(({ language, cost }) => `${language} ${cost}`).join(", ");
  throw new PolypacaError(
    "USAGE",
    `--per-language ${quota}: larger than the data of ${list} (${unit}). Lower it, or leave these languages out of --langs.`,
  );
}

function nonEmpty(records: Int32Array, flag: string): Int32Array {
  if (records.length > 0) return records;
  throw new PolypacaError("USAGE", `${flag}: the first record drawn costs more than that, so the file would be empty. Raise it.`);
}
