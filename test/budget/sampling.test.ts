import { describe, expect, it } from "vitest";
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
} from "../../src/budget/sampling.js";
import { numbersFrom } from "../data/data-folder.js";

const codes = ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"];

interface Data {
  readonly strata: readonly Stratum[];
  readonly seeds: SeedTable;
}

/** Languages with the same seed records, `costOf` each. */
function parallel(languages: number, records: number, costOf: () => number): Data {
  const strata = codes
    .slice(0, languages)
    .map((language) => ({ language, costs: BigInt64Array.from({ length: records }, () => BigInt(costOf())) }));
  const recordOf = strata.map(() => Int32Array.from({ length: records }, (_, record) => record));
  return { strata, seeds: { count: records, recordOf } };
}

/** 300 generated data sets: 1 to 9 languages, 1 to 40 records, costs all alike, alike but for a few, or anything up to 300. */
function* cases(): Generator<Data & { readonly budget: bigint; readonly seed: number; readonly name: string }> {
  const random = numbersFrom(5);
  for (let i = 0; i < 300; i++) {
    const costOf = [() => 1, () => (random(8) === 0 ? 500 : 3), () => 1 + random(300)][i % 3]!;
    const data = parallel(1 + random(9), 1 + random(40), costOf);
    const total = sum(data.strata.flatMap(({ costs }) => [...costs]));
    // Every third budget is C, the others anything up to everything.
    const budget = random(3) === 0 ? total / BigInt(data.strata.length) : (total * BigInt(random(1001))) / 1000n;
    yield { ...data, budget, seed: random(2 ** 32), name: `case ${i}` };
  }
}

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => total + value, 0n);
}

function costOf(sample: Sample, strata: readonly Stratum[]): bigint {
  return sum(sample.flatMap((records, i) => Array.from(records, (record) => strata[i]!.costs[record]!)));
}

function dearestOf(strata: readonly Stratum[]): bigint {
  return strata.flatMap(({ costs }) => [...costs]).reduce((most, cost) => (cost > most ? cost : most));
}

function expectRecordsOnce(sample: Sample, strata: readonly Stratum[], name: string): void {
  expect(sample, name).toHaveLength(strata.length);
  for (const [i, records] of sample.entries()) {
    expect([...records], name).toEqual([...new Set(records)].sort((a, b) => a - b));
    expect(
      records.every((record) => record >= 0 && record < strata[i]!.costs.length),
      name,
    ).toBe(true);
  }
}

const samplers = { random: randomSample, stratified: stratifiedSample };

describe.each(Object.entries(samplers))("a %s sample", (_, draw) => {
  it("takes no record twice, never exceeds its budget, and is short of it by less than a record", () => {
    for (const { strata, budget, seed, name } of cases()) {
      const sample = draw(strata, budget, seed);
      expectRecordsOnce(sample, strata, name);
      const short = budget - costOf(sample, strata);
      expect(short, name).toBeGreaterThanOrEqual(0n);
      expect(short < dearestOf(strata), name).toBe(true);
      expect(draw(strata, budget, seed), name).toEqual(sample);
    }
  });

  it("is exact in examples", () => {
    for (const { strata, seed } of cases()) {
      const ones = strata.map(({ language, costs }) => ({ language, costs: costs.map(() => 1n) }));
      const all = ones.reduce((total, { costs }) => total + costs.length, 0);
      const budget = BigInt(Math.floor(all / ones.length));
      expect(costOf(draw(ones, budget, seed), ones)).toBe(budget);
    }
  });

  it("takes everything where the budget is everything, nothing where it is nothing", () => {
    const { strata } = parallel(3, 10, () => 7);
    expect(draw(strata, 210n, 1).map((records) => records.length)).toEqual([10, 10, 10]);
    expect(draw(strata, 6n, 1).flatMap((records) => [...records])).toEqual([]);
  });

  it("is another one under another seed, also one that differs above 32 bits", () => {
    const { strata } = parallel(9, 40, () => 1);
    const drawn = [1, 2, 1 + 2 ** 32].map((seed) => JSON.stringify(draw(strata, 40n, seed).map((records) => [...records])));
    expect(new Set(drawn).size).toBe(3);
  });
});

describe("a random sample", () => {
  it("takes each language about as often as its share says: within five standard deviations of the hypergeometric count", () => {
    const sizes = [500, 1500, 1000];
    const strata = sizes.map((size, i) => ({ language: codes[i]!, costs: new BigInt64Array(size).fill(1n) }));
    const [all, taken] = [3000, 1000];
    for (let seed = 0; seed < 20; seed++) {
      for (const [i, records] of randomSample(strata, BigInt(taken), seed).entries()) {
        const share = sizes[i]! / all;
        const deviation = Math.sqrt((taken * share * (1 - share) * (all - taken)) / (all - 1));
        expect(Math.abs(records.length - taken * share)).toBeLessThan(5 * deviation);
      }
    }
  });

  it("takes every record equally often: within five standard deviations of the binomial count", () => {
    const { strata } = parallel(3, 8, () => 1);
    const counts = strata.map(() => new Array<number>(8).fill(0));
    const rounds = 4000;
    for (let seed = 0; seed < rounds; seed++)
      for (const [i, records] of randomSample(strata, 6n, seed).entries()) for (const record of records) counts[i]![record]!++;
    for (const count of counts.flat()) expect(Math.abs(count - rounds / 4)).toBeLessThan(5 * Math.sqrt((rounds * 3) / 16));
  });

  it("keeps what a smaller budget took", () => {
    for (const { strata, budget, seed, name } of cases()) {
      const larger = randomSample(strata, budget, seed);
      for (const [i, records] of randomSample(strata, budget / 2n, seed).entries())
        expect(
          [...records].every((record) => larger[i]!.includes(record)),
          name,
        ).toBe(true);
    }
  });
});

describe("a stratified sample", () => {
  it("gives each language its share of the budget, off by less than a record", () => {
    for (const { strata, budget, seed, name } of cases()) {
      const total = sum(strata.flatMap(({ costs }) => [...costs]));
      for (const [i, records] of stratifiedSample(strata, budget, seed).entries()) {
        const { costs } = strata[i]!;
        const spent = sum(Array.from(records, (record) => costs[record]!));
        const off = spent * total - budget * sum([...costs]);
        expect(off < dearestOf(strata) * total && -off < dearestOf(strata) * total, name).toBe(true);
      }
    }
  });

  it("has of each language the beginning of an order that the other languages do not bear on", () => {
    const random = numbersFrom(9);
    for (const { strata, budget, seed, name } of cases()) {
      const before = stratifiedSample(strata, budget, seed);
      const changed = random(strata.length);
      const others = strata.map((stratum, i) => (i === changed ? { ...stratum, costs: stratum.costs.map((cost) => cost + 5n) } : stratum));
      for (const [i, records] of stratifiedSample(others, budget, seed).entries()) {
        if (i === changed) continue;
        const [shorter, longer] = [before[i]!, records].sort((a, b) => a.length - b.length) as [Int32Array, Int32Array];
        expect(
          [...shorter].every((record) => longer.includes(record)),
          name,
        ).toBe(true);
      }
    }
  });

  it("does not change with a change that leaves the quotas as they are", () => {
    const { strata } = parallel(4, 20, () => 3);
    const before = stratifiedSample(strata, 60n, 8);
    const swapped = strata.map((stratum, i) => (i === 2 ? { ...stratum, costs: stratum.costs.with(0, 1n).with(1, 5n) } : stratum));
    const after = stratifiedSample(swapped, 60n, 8);
    for (const i of [0, 1, 3]) expect(after[i]).toEqual(before[i]);
  });
});

describe("an equal sample", () => {
  it("fills each language up to its quota, short by less than a record", () => {
    for (const { strata, seed, name } of cases()) {
      const quota = 1n + sum([...strata[0]!.costs]) / 2n;
      const sample = equalSample(strata, quota, seed);
      expectRecordsOnce(sample, strata, name);
      for (const [i, records] of sample.entries()) {
        const { language, costs } = strata[i]!;
        const short = quota - costOf([records], [{ language, costs }]);
        expect(short >= 0n && (records.length === costs.length || short < dearestOf(strata)), name).toBe(true);
      }
    }
  });
});

describe("a parallel sample", () => {
  it("takes the same records of files that are as long as each other and cost the same", () => {
    const costs = new BigInt64Array(50).fill(2n);
    expect(parallelSample(costs, 21n, 4)).toEqual(parallelSample(costs, 20n, 4));
    expect(parallelSample(costs, 20n, 4)).toHaveLength(10);
    expect(parallelSample(costs, 20n, 5)).not.toEqual(parallelSample(costs, 20n, 4));
  });
});

describe("a disjoint sample", () => {
  const seedsIn = (sample: Sample, { recordOf, count }: SeedTable): number[] =>
    sample.flatMap((records, i) =>
      Array.from({ length: count }, (_, item) => item).filter((item) => records.includes(recordOf[i]![item]!)),
    );

  it("has each seed record in one language at most, and fills C to within a record in every kind of cost", () => {
    for (const { strata, seeds, seed, name } of cases()) {
      const c = sum(strata.flatMap(({ costs }) => [...costs])) / BigInt(strata.length);
      for (const budget of [c, c / 2n]) {
        const sample = disjointSample(strata, seeds, budget, seed);
        expectRecordsOnce(sample, strata, name);
        const items = seedsIn(sample, seeds);
        expect(new Set(items).size, name).toBe(items.length);
        const short = budget - costOf(sample, strata);
        expect(short >= 0n && short < dearestOf(strata), name).toBe(true);
        expect(disjointSample(strata, seeds, budget, seed), name).toEqual(sample);
      }
    }
  });

  it("in examples uses every seed record of C, with languages level to within one record", () => {
    const { strata, seeds } = parallel(9, 60, () => 1);
    const sample = disjointSample(strata, seeds, 60n, 3);
    expect(seedsIn(sample, seeds)).toHaveLength(60);
    for (const records of sample) expect([6, 7]).toContain(records.length);
  });

  it("deals a seed record among the languages that have it", () => {
    const { strata, seeds } = parallel(2, 10, () => 1);
    const onlyFirst = { ...seeds, recordOf: [seeds.recordOf[0]!, seeds.recordOf[1]!.map((record) => (record < 6 ? -1 : record))] };
    const [first, second] = disjointSample(strata, onlyFirst, 10n, 1);
    expect([...first!].slice(0, 6)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(first!.length + second!.length).toBe(10);
  });

  it("of so much per language gives each that much, or says that the seed records do not suffice", () => {
    const { strata, seeds } = parallel(3, 30, () => 1);
    const sample = equalDisjointSample(strata, seeds, 10n, 2);
    expect(sample.map((records) => records.length)).toEqual([10, 10, 10]);
    expect(new Set(seedsIn(sample, seeds)).size).toBe(30);
    expect(() => equalDisjointSample(strata, seeds, 11n, 2)).toThrow(/--per-language 11: the 30 seed records are used up/);
  });
});
