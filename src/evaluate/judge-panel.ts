/** From several judgements of a pair to its rating, and how far the judgements agree. */
import { groupBy } from "./group-by.js";
import { pairKey } from "./pair-key.js";
import type { Judgement } from "./read-judgements.js";
import { krippendorffAlpha } from "./statistics/krippendorff-alpha.js";
import { meanOf } from "./statistics/mean.js";

/** How a judge agrees with itself over its repeats, or the judges with each other. */
export interface PanelAgreement {
  /** The judge; null: between the judges, each by its mean over repeats. */
  readonly judge: string | null;
  /** Repeats of the judge, or number of judges. */
  readonly ratings: number;
  /** Pairs with at least two of these ratings. */
  readonly pairs: number;
  /** Share of them where all ratings are equal; null for no pairs. */
  readonly identical: number | null;
  /** Krippendorff's alpha, interval metric; null where the ratings do not vary. */
  readonly alpha: number | null;
}

export interface JudgePanel {
  readonly judges: readonly string[];
  /** Judgements expected of each pair: every (judge, repeat) that the files have anywhere. */
  readonly judgementsPerPair: number;
  /** One per judge that was asked more than once, and one for several judges. */
  readonly agreement: readonly PanelAgreement[];
  /**
   * A pair's rating by its {@link pairKey}: the mean over judges of each judge's mean over its repeats, so that every judge weighs the
   * same. No entry where one of the expected judgements is missing or has no rating: what was not judged is not made up.
   */
  readonly ratings: ReadonlyMap<string, number>;
}

export function formPanel(judgements: readonly Judgement[]): JudgePanel {
  const slots = new Set(judgements.map(({ judge, repeat }) => JSON.stringify([judge, repeat])));
  const judges = [...new Set(judgements.map(({ judge }) => judge))];
  const usable = [...groupBy(judgements, pairKey)].map(([key, rows]) => ({ key, rows: rows.filter(({ rating }) => rating !== null) }));
  const ratings = new Map<string, number>();
  for (const { key, rows } of usable) if (rows.length === slots.size) ratings.set(key, meanOf(meansByJudge(rows, judges)));
  return { judges, judgementsPerPair: slots.size, agreement: agreementOf(usable, judges), ratings };
}

type Rows = readonly { readonly rows: readonly Judgement[] }[];

function agreementOf(pairs: Rows, judges: readonly string[]): PanelAgreement[] {
  const withRepeats = judges.flatMap((judge) => {
    const units = pairs.map(({ rows }) => rows.filter((row) => row.judge === judge).map(({ rating }) => rating!));
    const repeats = Math.max(...units.map((ratings) => ratings.length));
    return repeats < 2 ? [] : [describe(judge, repeats, units)];
  });
  if (judges.length < 2) return withRepeats;
  return [
    ...withRepeats,
    describe(
      null,
      judges.length,
      pairs.map(({ rows }) => meansByJudge(rows, judges)),
    ),
  ];
}

function describe(judge: string | null, ratings: number, units: readonly (readonly number[])[]): PanelAgreement {
  const compared = units.filter((unit) => unit.length >= 2);
  const identical = compared.filter((unit) => unit.every((rating) => rating === unit[0])).length;
  const alpha = krippendorffAlpha(compared);
  return { judge, ratings, pairs: compared.length, identical: compared.length === 0 ? null : identical / compared.length, alpha };
}

/** One mean per judge that rated the pair. */
function meansByJudge(rows: readonly Judgement[], judges: readonly string[]): number[] {
  const ratings = judges.map((judge) => rows.filter((row) => row.judge === judge).map(({ rating }) => rating!));
  return ratings.filter((each) => each.length > 0).map(meanOf);
}
