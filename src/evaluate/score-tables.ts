/** The score report as tables; each names the rule of language identification. */
import { formatCoefficient, formatInterval, formatP, formatPercent, formatScore } from "./format-numbers.js";
import { describeRule } from "./language-match.js";
import type { LanguageScore, ScoreReport, SystemScore } from "./score.js";
import type { Interval } from "./statistics/interval.js";
import { noValue, recordsAsCsv, type Table } from "./table.js";

/** Scores after and before language identification, language consistency, and what else the report has. */
export function scoreTables(report: ScoreReport): Table[] {
  const rule = `Language identification: ${describeRule(report.languageId)}.`;
  const tables = [scoresTable(report, rule), beforeTable(report, rule), consistencyTable(report, rule)];
  if (report.comparisons.length > 0) tables.push(comparisonsTable(report, rule));
  if (report.judgeAgreement.length > 0) tables.push(judgesTable(report, rule));
  return tables;
}

function scoresTable(report: ScoreReport, rule: string): Table {
  const columns = [{ title: "robustness", cell: (system: SystemScore) => robustnessCell(system, report.seenLanguages) }];
  return byLanguage(report, {
    name: "scores",
    caption: `Score: rating x language match, summed over the prompts. ${rule}`,
    notes: [
      `95% intervals in brackets: BCa bootstrap over prompts, ${report.resamples} resamples, seed ${report.seed}; none where all prompts have one score.`,
      "Robustness: mean drop by language identification over the seen languages; smaller is better.",
      ...judgesNote(report),
      ...incompleteNote(report),
    ],
    cell: ({ score, interval, ...rest }) => markIncomplete(`${formatScore(score)}${formatInterval(interval, formatScore)}`, rest),
    columns,
  });
}

function beforeTable(report: ScoreReport, rule: string): Table {
  return byLanguage(report, {
    name: "scores-before-language-id",
    caption: `Score before language identification: ratings summed over the prompts, whatever the language. ${rule}`,
    notes: incompleteNote(report),
    cell: ({ scoreBeforeLanguageId, intervalBeforeLanguageId, ...rest }) =>
      markIncomplete(`${formatScore(scoreBeforeLanguageId)}${formatInterval(intervalBeforeLanguageId, formatScore)}`, rest),
  });
}

function consistencyTable(report: ScoreReport, rule: string): Table {
  return byLanguage(report, {
    name: "language-consistency",
    caption: `Language consistency: share of the responses in the prompt's language. ${rule}`,
    notes: ["95% intervals in brackets: Wilson. u: responses whose language is undecided; they match nothing."],
    cell: ({ consistency, consistencyInterval, undecided }) =>
      `${formatPercent(consistency)}${formatInterval(consistencyInterval, formatPercent)}${undecided > 0 ? ` ${undecided}u` : ""}`,
  });
}

interface LanguageTable extends Pick<Table, "name" | "caption" | "notes"> {
  readonly cell: (score: LanguageScore) => string;
  /** Behind the languages. */
  readonly columns?: readonly { readonly title: string; readonly cell: (system: SystemScore) => string }[];
}

/** A row per system, a column per language: the seen ones first, then the others, marked. */
function byLanguage({ systems, seenLanguages }: ScoreReport, { name, caption, notes, cell, columns = [] }: LanguageTable): Table {
  const tested = [...new Set(systems.flatMap(({ languages }) => Object.keys(languages)))];
  const seen = tested.filter((language) => seenLanguages.includes(language)).sort();
  const unseen = tested.filter((language) => !seenLanguages.includes(language)).sort();
  const ofSystem = (system: SystemScore): string[] => [
    system.system,
    ...[...seen, ...unseen].map((language) => {
      const score = system.languages[language];
      return score === undefined ? noValue : cell(score);
    }),
    ...columns.map((column) => column.cell(system)),
  ];
  return {
    ...{ name, caption, notes, rows: systems.map(ofSystem) },
    columns: [
      { title: "system", align: "left" },
      ...seen.map((title) => ({ title })),
      ...unseen.map((language) => ({ title: `${language} (unseen)` })),
      ...columns.map(({ title }) => ({ title })),
    ],
  };
}

function comparisonsTable({ comparisons, resamples, seed }: ScoreReport, rule: string): Table {
  const sampled = comparisons.filter(({ method }) => method === "monte carlo").length;
  return {
    name: "comparisons",
    caption: `Differences in score between systems A and B on the same prompts. ${rule}`,
    notes: [
      `95% intervals in brackets: BCa bootstrap over prompts, ${resamples} resamples, seed ${seed}. "seen": mean over the seen languages that both have.`,
      `p: two-sided paired sign-flip test, ${sampled === 0 ? "exact" : `exact but for ${sampled} by random patterns`}; p (Holm): for all ${comparisons.length} comparisons of this table together.`,
    ],
    columns: [
      { title: "A", align: "left" },
      { title: "B", align: "left" },
      { title: "language", align: "left" },
      ...["A - B", "prompts", "p", "p (Holm)"].map((title) => ({ title })),
    ],
    rows: comparisons.map(({ systems, language, difference, interval, prompts, p, pAdjusted }) => [
      ...[...systems, language, withInterval(difference, interval), String(prompts), formatP(p), formatP(pAdjusted)],
    ]),
  };
}

function judgesTable({ judgeAgreement }: ScoreReport, rule: string): Table {
  return {
    name: "judge-agreement",
    caption: `Agreement of the judges with themselves and each other, before language identification. ${rule}`,
    notes: ["alpha: Krippendorff's, interval metric; 1 is perfect, 0 is chance."],
    columns: [{ title: "judge", align: "left" }, ...["ratings", "pairs", "identical", "alpha"].map((title) => ({ title }))],
    rows: judgeAgreement.map(({ judge, ratings, pairs, identical, alpha }) => [
      judge ?? "between judges",
      ...[String(ratings), String(pairs), identical === null ? noValue : formatPercent(identical), formatCoefficient(alpha)],
    ]),
  };
}

function withInterval(value: number | null, interval: Interval | null): string {
  return value === null ? noValue : `${formatScore(value)}${formatInterval(interval, formatScore)}`;
}

function robustnessCell({ languages, robustness, robustnessInterval }: SystemScore, seenLanguages: readonly string[]): string {
  const isIncomplete = seenLanguages.some((language) => (languages[language]?.incomplete ?? 0) > 0);
  return `${withInterval(robustness, robustnessInterval)}${isIncomplete ? " (incomplete)" : ""}`;
}

/** 87 (47/50): the sum of 47 prompts, of 50. */
function markIncomplete(text: string, { prompts, incomplete }: Pick<LanguageScore, "prompts" | "incomplete">): string {
  return incomplete > 0 ? `${text} (${prompts - incomplete}/${prompts})` : text;
}

function judgesNote({ judges, judgementsPerPair }: ScoreReport): string[] {
  const how =
    judgementsPerPair > 1
      ? `; a pair's rating is the mean over judges of each one's mean over its repeats (${judgementsPerPair} judgements)`
      : "";
  return [`Judge: ${judges.join(", ")}${how}.`];
}

function incompleteNote({ incomplete }: ScoreReport): string[] {
  return incomplete === 0
    ? []
    : ["Incomplete: (n/N) is the sum of the n prompts that were judged, of N; it is not scaled up and has no interval."];
}

const scoreColumns = [
  ...["system", "model", "method", "condition", "seed", "language", "seen", "candidates", "lid_model"],
  ...["score", "score_low", "score_high", "score_before_language_id", "before_low", "before_high"],
  ...["prompts", "undecided", "incomplete", "consistency", "consistency_low", "consistency_high"],
] as const;

/** A row per system and language; ends of intervals in columns of their own. */
export function scoresAsCsv({ systems, languageId, seenLanguages }: ScoreReport): string {
  const records = systems.flatMap(({ languages, system, model, method, condition, seed }) =>
    Object.entries(languages).map(([language, cell]) => ({
      ...{ system, model, method, condition, seed, language, seen: seenLanguages.includes(language) ? 1 : 0 },
      ...{ candidates: cell.candidates, lid_model: languageId.model, score: cell.score },
      ...{ score_low: cell.interval?.[0] ?? null, score_high: cell.interval?.[1] ?? null },
      ...{ score_before_language_id: cell.scoreBeforeLanguageId },
      ...{ before_low: cell.intervalBeforeLanguageId?.[0] ?? null, before_high: cell.intervalBeforeLanguageId?.[1] ?? null },
      ...{ prompts: cell.prompts, undecided: cell.undecided, incomplete: cell.incomplete, consistency: cell.consistency },
      ...{ consistency_low: cell.consistencyInterval[0], consistency_high: cell.consistencyInterval[1] },
    })),
  );
  return recordsAsCsv(scoreColumns, records);
}

/** A row per system. */
export function robustnessAsCsv({ systems, languageId }: ScoreReport): string {
  return recordsAsCsv(
    ["system", "candidates", "lid_model", "robustness", "low", "high"],
    systems.map(({ system, robustness, robustnessInterval }) => ({
      ...{ system, candidates: languageId.candidates, lid_model: languageId.model, robustness },
      ...{ low: robustnessInterval?.[0] ?? null, high: robustnessInterval?.[1] ?? null },
    })),
  );
}

/** A row per comparison. */
export function comparisonsAsCsv({ comparisons, languageId }: ScoreReport): string {
  return recordsAsCsv(
    ["system_a", "system_b", "language", "candidates", "difference", "low", "high", "prompts", "p", "p_holm", "method"],
    comparisons.map(({ systems, language, difference, interval, prompts, p, pAdjusted, method }) => ({
      ...{ system_a: systems[0], system_b: systems[1], language, candidates: languageId.candidates, difference },
      ...{ low: interval?.[0] ?? null, high: interval?.[1] ?? null, prompts, p, p_holm: pAdjusted, method },
    })),
  );
}
