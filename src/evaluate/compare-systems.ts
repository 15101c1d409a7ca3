/** Paired comparisons of systems on the prompts that both answered. */
import { PolypacaError } from "../errors.js";
import { type Cell, scoresAfterLanguageId } from "./cell.js";
import type { Comparing, SystemScore } from "./score.js";
import { type Resampler, sumInterval } from "./statistics/bootstrap.js";
import type { Interval } from "./statistics/interval.js";
import { sumOf } from "./statistics/mean.js";
import { holmAdjusted, type SignFlipTest, signFlipTest } from "./statistics/sign-flip-test.js";

export interface Comparison {
  /** The difference is the first's score less the second's. */
  readonly systems: readonly [string, string];
  /** A code; "seen": the mean over the seen languages that both have, of several. */
  readonly language: string;
  /** Of the scores after language identification, over the prompts judged for both. */
  readonly difference: number;
  /** BCa bootstrap over prompts. */
  readonly interval: Interval | null;
  /** Prompts compared; for "seen" a prompt counts once with all its languages. */
  readonly prompts: number;
  /** Two-sided, of the paired sign-flip test. */
  readonly p: number;
  readonly method: SignFlipTest["method"];
  /** `p` by Holm's method, for all comparisons of the report together. */
  readonly pAdjusted: number;
}

export interface CompareOptions {
  readonly comparing: Comparing;
  readonly seenLanguages: readonly string[];
  readonly resampler: Resampler;
}

type Cells = ReadonlyMap<string, ReadonlyMap<string, Cell>>;

/** @throws PolypacaError `USAGE` for a baseline that is not among the systems */
export function compareSystems(systems: readonly SystemScore[], cells: Cells, options: CompareOptions): Comparison[] {
  const compared = pairsOf(systems, options.comparing).flatMap(([first, second]) =>
    compareTwo([first.system, second.system], [cells.get(first.system)!, cells.get(second.system)!], options),
  );
  const adjusted = holmAdjusted(compared.map(({ p }) => p));
  return compared.map((comparison, index) => ({ ...comparison, pAdjusted: adjusted[index]! }));
}

type SystemPair = readonly [SystemScore, SystemScore];

function pairsOf(systems: readonly SystemScore[], comparing: Comparing): SystemPair[] {
  if (comparing === "none") return [];
  if (typeof comparing === "object") {
    const baseline = systems.find(({ system }) => system === comparing.baseline);
    if (baseline) return systems.filter((system) => system !== baseline).map((system) => [system, baseline]);
    const names = systems.map(({ system }) => JSON.stringify(system)).join(", ");
    throw new PolypacaError("USAGE", `--baseline ${comparing.baseline}: there is no such system, only ${names}.`);
  }
  const pairs = systems.flatMap((first, index) => systems.slice(index + 1).map((second): SystemPair => [first, second]));
  return comparing === "all" ? pairs : pairs.filter(differInConditionAlone);
}

function differInConditionAlone([a, b]: SystemPair): boolean {
  const isKnown = a.condition !== null && b.condition !== null && a.model !== null;
  return isKnown && a.condition !== b.condition && a.model === b.model && a.method === b.method && a.seed === b.seed;
}

function compareTwo(
  systems: readonly [string, string],
  [first, second]: readonly [ReadonlyMap<string, Cell>, ReadonlyMap<string, Cell>],
  { seenLanguages, resampler }: CompareOptions,
): Omit<Comparison, "pAdjusted">[] {
  const shared = [...first.keys()].filter((language) => second.has(language));
  const byLanguage = new Map(shared.map((language) => [language, differencesOf(first.get(language)!, second.get(language)!)]));
  const describe = (language: string, differences: readonly number[], scale: number): Omit<Comparison, "pAdjusted">[] => {
    if (differences.length === 0) return [];
    const interval = sumInterval(differences, resampler);
    return [
      {
        ...{ systems, language, difference: sumOf(differences) / scale, prompts: differences.length },
        interval: interval && [interval[0] / scale, interval[1] / scale],
        ...signFlipTest(differences, { seed: resampler.seed }),
      },
    ];
  };
  const seen = shared.filter((language) => seenLanguages.includes(language));
  const pooled = seen.length > 1 ? describe("seen", pool(seen.map((language) => byLanguage.get(language)!)), seen.length) : [];
  return [...shared.flatMap((language) => describe(language, [...byLanguage.get(language)!.values()], 1)), ...pooled];
}

/** First less second by prompt id, where both are judged. */
function differencesOf(first: Cell, second: Cell): ReadonlyMap<string, number> {
  const [a, b] = [scoresAfterLanguageId(first), scoresAfterLanguageId(second)];
  const differences = new Map<string, number>();
  for (const [at, id] of first.ids.entries()) {
    const [x, y] = [a[at]!, b[at]!];
    if (x !== null && y !== null) differences.set(id, x - y);
  }
  return differences;
}

/** A prompt's differences go together across languages: they are summed, so that the prompt is the unit of the test. */
function pool(languages: readonly ReadonlyMap<string, number>[]): number[] {
  const sums = new Map<string, number>();
  for (const differences of languages) {
    for (const [id, difference] of differences) sums.set(id, (sums.get(id) ?? 0) + difference);
  }
  return [...sums.values()];
}
