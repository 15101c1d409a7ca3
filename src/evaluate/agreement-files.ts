/** `agreement`: from files to a report, and the report as text, LaTeX and CSV. */
import { type AgreementReport, agreement, type InstanceAgreement, type LanguageAgreement } from "./agreement.js";
import { formatCoefficient, formatInterval } from "./format-numbers.js";
import { type RatingScale, readHumanScores } from "./read-human-scores.js";
import { readJudgements } from "./read-judgements.js";
import type { Estimate } from "./statistics/interval.js";
import { noValue, recordsAsCsv, type Table } from "./table.js";

export interface AgreementSettings {
  /** CSV or JSONL. */
  readonly human: readonly string[];
  readonly judgements: readonly string[];
  readonly humanScale: RatingScale;
  readonly resamples: number;
  /** Of the resamples. */
  readonly seed: number;
}

/** @throws PolypacaError as {@link readHumanScores}, {@link readJudgements} and {@link agreement} do */
export async function agreementOfFiles(settings: AgreementSettings): Promise<AgreementReport> {
  const humanScores = await readHumanScores(settings.human, settings.humanScale);
  const judgements = await readJudgements(settings.judgements);
  return agreement({ ...settings, humanScores, judgements });
}

const allLanguages = "all";

interface Line {
  readonly judge: string;
  readonly language: string;
  readonly values: InstanceAgreement & Partial<LanguageAgreement>;
}

/** A line per judge and language, and one for all languages together. */
function linesOf({ judges }: AgreementReport): Line[] {
  return judges.flatMap(({ judge, languages, overall }) => [
    ...Object.entries(languages).map(([language, values]) => ({ judge, language, values })),
    { judge, language: allLanguages, values: overall },
  ]);
}

const measures = ["pearson", "spearman", "kendall", "quadraticKappa", "linearKappa"] as const;

export function agreementTable(report: AgreementReport): Table {
  const { raters, humanAlpha, resamples, seed, humanScale } = report;
  const lines = linesOf(report);
  const unjudged = lines.filter(({ language }) => language === allLanguages).reduce((sum, { values }) => sum + values.unjudged, 0);
  const hasKappa = lines.some(({ values }) => values.quadraticKappa.value !== null);
  const between =
    humanAlpha === null ? "" : `, ${formatCoefficient(humanAlpha)} agreement between them (Krippendorff's alpha, interval metric)`;
  return {
    name: "agreement",
    caption: "Agreement of judge and human scores, before language identification.",
    notes: [
      "Pearson, Spearman, Kendall (tau-b): over systems, of mean scores; 95% intervals by Fisher's z (Bonett and Wright 2000). Kappa: over responses,",
      `quadratic and linear weights; 95% intervals by BCa bootstrap over prompts, ${resamples} resamples, seed ${seed}. No interval: too few values, or no variation.`,
      `People: ${raters.length}${between}; scale ${humanScale.min} to ${humanScale.max}.`,
      ...(hasKappa ? [] : ["No kappa: it needs ratings in whole numbers on the judge's scale, 1 to 3, that vary."]),
      ...(unjudged > 0 ? [`Left out: ${unjudged} responses that the judge gave no rating.`] : []),
    ],
    columns: [
      { title: "judge", align: "left" },
      { title: "language", align: "left" },
      ...["systems", "responses", "Pearson", "Spearman", "Kendall", "kappa (quadratic)", "kappa (linear)"].map((title) => ({ title })),
    ],
    rows: lines.map(({ judge, language, values }) => [
      ...[judge, language, values.systems === undefined ? noValue : String(values.systems), String(values.pairs)],
      ...measures.map((measure) => estimateCell(values[measure])),
    ]),
  };
}

function estimateCell(estimate: Estimate | undefined): string {
  return estimate === undefined ? noValue : `${formatCoefficient(estimate.value)}${formatInterval(estimate.interval, formatCoefficient)}`;
}

/** A row per judge, language and measure. */
export function agreementAsCsv(report: AgreementReport): string {
  const records = linesOf(report).flatMap(({ judge, language, values }) =>
    measures.flatMap((measure) => {
      const estimate = values[measure];
      if (estimate === undefined) return [];
      const [low, high] = estimate.interval ?? [null, null];
      return [{ judge, language, systems: values.systems ?? null, responses: values.pairs, measure, value: estimate.value, low, high }];
    }),
  );
  return recordsAsCsv(["judge", "language", "systems", "responses", "measure", "value", "low", "high"], records);
}
