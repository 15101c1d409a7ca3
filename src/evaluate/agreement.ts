/**
 * How far judges agree with people. Per language, over systems: the correlations of mean human and mean judge scores (the study's measure
 * is Pearson's). Per language and in all, over single responses: weighted kappa of the ratings.
 */
import { PolypacaError } from "../errors.js";
import { groupBy } from "./group-by.js";
import { describePair, pairKey, refuseRows } from "./pair-key.js";
import type { HumanScore, RatingScale } from "./read-human-scores.js";
import { type Judgement, ratingScale } from "./read-judgements.js";
import { bootstrapInterval, Resampler } from "./statistics/bootstrap.js";
import { kendallTauB, pearson, spearman } from "./statistics/correlation.js";
import { confidence, type Estimate } from "./statistics/interval.js";
import { krippendorffAlpha } from "./statistics/krippendorff-alpha.js";
import { meanOf } from "./statistics/mean.js";
import { type Disagreement, linearDisagreement, quadraticDisagreement, weightedKappa } from "./statistics/weighted-kappa.js";

/**
 * Over single responses. Where people or the judge rated a response several times, each combination of a human and a judge rating counts
 * as a share of the response. Intervals: BCa bootstrap over prompts, each with all its systems, languages and ratings.
 */
export interface InstanceAgreement {
  /** Responses rated by people and by the judge. */
  readonly pairs: number;
  /** Responses rated by people of which the judge's answer had no rating; they are left out. */
  readonly unjudged: number;
  /** Disagreement weighs as its square. Null unless people used the judge's scale, in whole numbers. */
  readonly quadraticKappa: Estimate;
  /** Disagreement weighs as its size. */
  readonly linearKappa: Estimate;
}

/** Correlations over systems, of their mean scores on the responses that both rated; analytic intervals (see correlation.ts). */
export interface LanguageAgreement extends InstanceAgreement {
  readonly systems: number;
  readonly pearson: Estimate;
  readonly spearman: Estimate;
  readonly kendall: Estimate;
}

export interface JudgeAgreement {
  readonly judge: string;
  /** By code. */
  readonly languages: Readonly<Record<string, LanguageAgreement>>;
  /** All languages' responses together. */
  readonly overall: InstanceAgreement;
}

export interface AgreementReport {
  readonly judges: readonly JudgeAgreement[];
  readonly raters: readonly string[];
  /** Between the people: Krippendorff's alpha, interval metric; null where no response has two people's ratings. */
  readonly humanAlpha: number | null;
  readonly humanScale: RatingScale;
  readonly confidence: number;
  readonly resamples: number;
  readonly seed: number;
}

export interface AgreementInput {
  readonly humanScores: readonly HumanScore[];
  readonly judgements: readonly Judgement[];
  readonly humanScale: RatingScale;
  readonly resamples: number;
  readonly seed: number;
}

/**
 * Compares scores that are in memory. A pure function of its arguments.
 *
 * @throws PolypacaError `BAD_DATA` where no human score belongs to a judgement; `BAD_RECORD` listing human scores of responses that a judge
 *   has no row for
 */
export function agreement({ humanScores, judgements, humanScale, resamples, seed }: AgreementInput): AgreementReport {
  const judges = [...new Set(judgements.map(({ judge }) => judge))];
  const resampler = new Resampler(seed, resamples);
  const ratingsByHumans = groupBy(humanScores, pairKey);
  const hasCategories = humanScale.min === ratingScale.min && humanScale.max === ratingScale.max;
  return {
    judges: judges.map((judge) => {
      const rated = pairUp(
        humanScores,
        ratingsByHumans,
        judgements.filter((row) => row.judge === judge),
        judge,
      );
      const languages = [...groupBy(rated, ({ language }) => language)].map(([language, pairs]) => {
        return [language, { ...instanceAgreement(pairs, hasCategories, resampler), ...systemAgreement(pairs) }] as const;
      });
      return { judge, languages: Object.fromEntries(languages), overall: instanceAgreement(rated, hasCategories, resampler) };
    }),
    raters: [...new Set(humanScores.map(({ rater }) => rater))],
    humanAlpha: krippendorffAlpha([...ratingsByHumans.values()].map((scores) => scores.map(({ rating }) => rating))),
    ...{ humanScale, confidence, resamples, seed },
  };
}

/** A response with what people and the judge gave it. */
interface RatedPair {
  readonly system: string;
  readonly language: string;
  readonly id: string;
  readonly human: readonly number[];
  /** One per repeat that had a rating; none: unjudged. */
  readonly judged: readonly number[];
}

function pairUp(
  humanScores: readonly HumanScore[],
  ratingsByHumans: ReadonlyMap<string, readonly HumanScore[]>,
  judgements: readonly Judgement[],
  judge: string,
): RatedPair[] {
  const ratingsByJudge = groupBy(judgements, pairKey);
  const orphans = humanScores.filter((row) => !ratingsByJudge.has(pairKey(row)));
  if (orphans.length === humanScores.length) {
    const [human, judged] = [describePair(humanScores[0]!), describePair(judgements[0]!)];
    throw new PolypacaError(
      "BAD_DATA",
      `no human score belongs to a judgement of ${judge}: the first are of ${human} and ${judged}. Use the same names and ids in both files.`,
    );
  }
  refuseRows(
    "BAD_RECORD",
    orphans.map((row) => ({ ...row.place, reason: `${judge} has no judgement of ${describePair(row)}` })),
    "Judge these responses, or leave their human scores out.",
  );
  return [...ratingsByHumans].map(([key, scores]) => {
    const { system, language, id } = scores[0]!;
    const judged = ratingsByJudge.get(key)!.flatMap(({ rating }) => (rating === null ? [] : [rating]));
    return { system, language, id, human: scores.map(({ rating }) => rating), judged };
  });
}

function systemAgreement(pairs: readonly RatedPair[]): Omit<LanguageAgreement, keyof InstanceAgreement> {
  const bySystem = [...groupBy(pairs.filter(isJudged), ({ system }) => system).values()];
  const human = bySystem.map((rows) => meanOf(rows.map((row) => meanOf(row.human))));
  const judged = bySystem.map((rows) => meanOf(rows.map((row) => meanOf(row.judged))));
  return {
    systems: bySystem.length,
    pearson: pearson(human, judged),
    spearman: spearman(human, judged),
    kendall: kendallTauB(human, judged),
  };
}

function instanceAgreement(all: readonly RatedPair[], hasCategories: boolean, resampler: Resampler): InstanceAgreement {
  const pairs = all.filter(isJudged);
  const isWhole = pairs.every(({ human, judged }) => [...human, ...judged].every(Number.isInteger));
  const tables = hasCategories && isWhole ? [...groupBy(pairs, ({ id }) => id).values()].map(contingencyTable) : [];
  const kappa = (disagreement: Disagreement): Estimate => {
    const statistic = (prompts: Iterable<number>): number | null => weightedKappa(sumOfTables(tables, prompts), disagreement);
    return { value: statistic(tables.keys()), interval: bootstrapInterval(tables.length, statistic, resampler) };
  };
  return {
    ...{ pairs: pairs.length, unjudged: all.length - pairs.length },
    ...{ quadraticKappa: kappa(quadraticDisagreement), linearKappa: kappa(linearDisagreement) },
  };
}

function isJudged({ judged }: RatedPair): boolean {
  return judged.length > 0;
}

const categories = ratingScale.max - ratingScale.min + 1;

/** [categories, categories], row-major: how often people gave rating i and the judge j. A response counts 1 in all, however often rated. */
type ContingencyTable = Float64Array;

function contingencyTable(pairs: readonly RatedPair[]): ContingencyTable {
  const table = new Float64Array(categories ** 2);
  for (const { human, judged } of pairs) {
    const share = 1 / (human.length * judged.length);
    for (const i of human) for (const j of judged) table[(i - ratingScale.min) * categories + (j - ratingScale.min)]! += share;
  }
  return table;
}

function sumOfTables(tables: readonly ContingencyTable[], indices: Iterable<number>): number[][] {
  const sum = new Float64Array(categories ** 2);
  for (const index of indices) {
    const table = tables[index]!;
    for (let cell = 0; cell < sum.length; cell++) sum[cell]! += table[cell]!;
  }
  return Array.from({ length: categories }, (_, row) => [...sum.subarray(row * categories, (row + 1) * categories)]);
}
