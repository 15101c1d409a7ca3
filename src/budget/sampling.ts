/**
 * Samples of several languages' records up to a budget. Every record has a random rank that depends on the seed, its language and its
 * place in that language's file alone; samples take records in the order of the ranks, so a larger budget keeps what a smaller one
 * took, and a change of one file leaves the others' ranks as they are.
 *
 * The last record: records are taken until the next one would exceed the budget, so a sample is short by less than that record costs.
 * Going on with shorter ones would come closer, and favour them.
 */
import { CounterRandom, type RandomPurpose, randomPurpose, randomRank } from "../data/philox.js";
import { PolypacaError } from "../errors.js";

/** One language's records as the samplers see them. */
export interface Stratum {
  /** ISO 639 code: two or three letters. */
  readonly language: string;
  /** By record, positive whole numbers in the budget's unit. */
  readonly costs: BigInt64Array;
}

/** By stratum: the indices of the records taken, ascending. */
export type Sample = readonly Int32Array[];

/** A language's code as a number, its stream of random ranks: the ASCII letters are its bytes. */
export function languageStream(code: string): number {
  return Array.from(code).reduce((stream, letter) => stream * 256 + letter.charCodeAt(0), 0);
}

/** The numbers 0 to `count` - 1 in the order of their ranks. */
export function rankedOrder(count: number, seed: number, purpose: RandomPurpose, stream: number): Int32Array {
  return sortedBy(Float64Array.from({ length: count }, (_, item) => randomRank(seed, purpose, stream, item)));
}

/** Indices by ascending rank. */
export function sortedBy(ranks: Float64Array): Int32Array {
  return Int32Array.from(ranks, (_, i) => i).sort((a, b) => ranks[a]! - ranks[b]! || a - b);
}

/** How many of `order`, from its beginning, cost no more than `budget` together. */
export function fillingLength(order: Int32Array, costs: BigInt64Array, budget: bigint): number {
  let rest = budget;
  let taken = 0;
  while (taken < order.length && costs[order[taken]!]! <= rest) rest -= costs[order[taken++]!]!;
  return taken;
}

/**
 * A random sample of one language up to `budget`. Languages whose files are as long as each other and list the same records in the
 * same order give the same records, since the ranks here do not depend on the language: a small study in which, as in the whole one,
 * every language has the same instructions.
 */
export function parallelSample(costs: BigInt64Array, budget: bigint, seed: number): Int32Array {
  const order = rankedOrder(costs.length, seed, randomPurpose.sample, 0);
  return order.slice(0, fillingLength(order, costs, budget)).sort();
}

/** The study's: a plain random sample of the merged data; every record is as likely as every other. */
export function randomSample(strata: readonly Stratum[], budget: bigint, seed: number): Sample {
  const all = strata.reduce((sum, stratum) => sum + stratum.costs.length, 0);
  const merged = { stratum: new Int32Array(all), record: new Int32Array(all), cost: new BigInt64Array(all), rank: new Float64Array(all) };
  let at = 0;
  for (const [i, { language, costs }] of strata.entries()) {
    const stream = languageStream(language);
    for (let record = 0; record < costs.length; record++, at++) {
      merged.stratum[at] = i;
      merged.record[at] = record;
      merged.cost[at] = costs[record]!;
      merged.rank[at] = randomRank(seed, randomPurpose.sample, stream, record);
    }
  }
  const order = sortedBy(merged.rank);
  const taken = order.subarray(0, fillingLength(order, merged.cost, budget)).toSorted();
  return strata.map((_, i) => taken.filter((place) => merged.stratum[place] === i).map((place) => merged.record[place]!));
}

/**
 * A sample in which every language has its share of the whole data's cost: each is filled up to its quota, budget x its cost / the
 * cost of all, from its own order; what is left goes, a record at a time, to the language that is furthest below its quota, the first
 * in the list among equals. So a language's part is the beginning of its own order, and its length is all that others bear on.
 */
export function stratifiedSample(strata: readonly Stratum[], budget: bigint, seed: number): Sample {
  const totals = strata.map(({ costs }) => costs.reduce((sum, cost) => sum + cost, 0n));
  const all = totals.reduce((sum, total) => sum + total, 0n);
  const parts = strata.map(({ language, costs }, i) => {
    const order = rankedOrder(costs.length, seed, randomPurpose.sample, languageStream(language));
    const quota = all === 0n ? 0n : (budget * totals[i]!) / all;
    const taken = fillingLength(order, costs, quota);
    const spent = order.subarray(0, taken).reduce((sum, record) => sum + costs[record]!, 0n);
    // Below the quota by this, times `all` to stay a whole number.
    return { order, costs, taken, shortfall: budget * totals[i]! - spent * all, spent };
  });
  let rest = parts.reduce((left, { spent }) => left - spent, budget);
  for (;;) {
    const open = parts.filter(({ order, taken }) => taken < order.length);
    if (open.length === 0) break;
    const next = open.reduce((best, part) => (part.shortfall > best.shortfall ? part : best));
    const cost = next.costs[next.order[next.taken]!]!;
    if (cost > rest) break;
    rest -= cost;
    next.taken++;
    next.shortfall -= cost * all;
  }
  return parts.map(({ order, taken }) => order.slice(0, taken).sort());
}

/** Fills each language up to the same `quota`, from its own order. */
export function equalSample(strata: readonly Stratum[], quota: bigint, seed: number): Sample {
  return strata.map(({ language, costs }) => {
    const order = rankedOrder(costs.length, seed, randomPurpose.sample, languageStream(language));
    return order.slice(0, fillingLength(order, costs, quota)).sort();
  });
}

/** Which records of different languages are the same seed instruction. */
export interface SeedTable {
  /** How many different seed instructions there are. */
  readonly count: number;
  /** By stratum, then by seed instruction: the record; -1: the language lacks it. */
  readonly recordOf: readonly Int32Array[];
}

/**
 * A sample in which every seed instruction is in one language at most. The seeds are taken in random order, and each is dealt to a
 * language that has it and has fewest records so far, by lot among equals: the languages stay level record by record.
 *
 * Where all seeds are dealt and the budget is not full (in tokens or FLOPs, since in which language a seed costs how much is chance),
 * seeds are given to dearer languages, in the same order, as far as the budget allows: only so can each seed stand once and the sample
 * be short by less than a record.
 */
export function disjointSample(strata: readonly Stratum[], seeds: SeedTable, budget: bigint, seed: number): Sample {
  const dealer = new Dealer(strata, seeds, seed);
  let rest = budget;
  let isFull = false;
  for (const item of dealer.order) {
    const stratum = dealer.fewestFirst(item)[0]!;
    const cost = dealer.costOf(stratum, item);
    isFull = cost > rest;
    if (isFull) break;
    rest -= cost;
    dealer.deal(item, stratum);
  }
  if (!isFull) dealer.raise(rest);
  return dealer.sample();
}

/**
 * As {@link disjointSample}, with each language filled up to the same `quota`.
 *
 * @throws PolypacaError `USAGE` where the seeds do not suffice
 */
export function equalDisjointSample(strata: readonly Stratum[], seeds: SeedTable, quota: bigint, seed: number): Sample {
  const dealer = new Dealer(strata, seeds, seed);
  const rest = strata.map(() => quota);
  const open = new Set(strata.keys());
  for (const item of dealer.order) {
    for (const stratum of dealer.fewestFirst(item).filter((candidate) => open.has(candidate))) {
      const cost = dealer.costOf(stratum, item);
      if (cost <= rest[stratum]!) {
        rest[stratum]! -= cost;
        dealer.deal(item, stratum);
        if (rest[stratum] === 0n) open.delete(stratum);
        break;
      }
      open.delete(stratum);
    }
    if (open.size === 0) return dealer.sample();
  }
  const short = [...open].map((stratum) => strata[stratum]!.language).join(", ");
  throw new PolypacaError(
    "USAGE",
    `--sampling disjoint --per-language ${quota}: the ${seeds.count} seed records are used up and ${short} would have less. Lower --per-language, or leave --sampling out.`,
  );
}

/** Deals seed instructions to languages. */
class Dealer {
  /** The seeds in random order. */
  readonly order: Int32Array;
  readonly #strata: readonly Stratum[];
  readonly #seeds: SeedTable;
  readonly #random: CounterRandom;
  readonly #counts: number[];
  /** By seed; -1: dealt to none. */
  readonly #stratumOf: Int32Array;

  constructor(strata: readonly Stratum[], seeds: SeedTable, seed: number) {
    this.#strata = strata;
    this.#seeds = seeds;
    this.#random = new CounterRandom(seed, randomPurpose.seedDeal);
    this.#counts = strata.map(() => 0);
    this.#stratumOf = new Int32Array(seeds.count).fill(-1);
    this.order = rankedOrder(seeds.count, seed, randomPurpose.seedOrder, 0);
  }

  costOf(stratum: number, item: number): bigint {
    return this.#strata[stratum]!.costs[this.#seeds.recordOf[stratum]![item]!]!;
  }

  /** The strata that have the seed, those with fewest records first, by lot among equals. */
  fewestFirst(item: number): number[] {
    const lots = this.#strata.map(() => this.#random.uint32());
    return this.#having(item).sort((a, b) => this.#counts[a]! - this.#counts[b]! || lots[a]! - lots[b]! || a - b);
  }

  deal(item: number, stratum: number): void {
    this.#stratumOf[item] = stratum;
    this.#counts[stratum]!++;
  }

  /** Gives each seed in turn to the dearest language that what is left of the budget allows. */
  raise(rest: bigint): void {
    for (const item of this.order) {
      const now = this.costOf(this.#stratumOf[item]!, item);
      const within = this.#having(item).filter((stratum) => this.costOf(stratum, item) - now <= rest);
      const dearest = within.reduce((best, stratum) => (this.costOf(stratum, item) > this.costOf(best, item) ? stratum : best));
      const more = this.costOf(dearest, item) - now;
      if (more <= 0n) continue;
      rest -= more;
      this.#stratumOf[item] = dearest;
    }
  }

  sample(): Sample {
    return this.#strata.map((_, stratum) => {
      const mine = this.#seeds.recordOf[stratum]!.filter((_, item) => this.#stratumOf[item] === stratum);
      return mine.sort();
    });
  }

  #having(item: number): number[] {
    return [...this.#strata.keys()].filter((stratum) => this.#seeds.recordOf[stratum]![item]! >= 0);
  }
}
