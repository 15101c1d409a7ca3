/** What a mix costs and what is in it: the result of `mix`, and most of its manifest. */
import type { TrainingWork } from "../families/work.js";
import type { Finding } from "./alignment.js";
import { type MixPlan, type PlannedFile, poolCost } from "./conditions.js";
import type { CostBasis } from "./cost-basis.js";
import { addCosts, type BudgetUnit, type Cost, costOf, divideCost } from "./costs.js";
import type { LanguageData } from "./language-data.js";
import type { Condition, Sampling } from "./mix-settings.js";
import type { Sample, Stratum } from "./sampling.js";

/** One language's records in the data, or in a training file. Token figures are null without a tokenizer, FLOPs without a model. */
export interface PartReport {
  readonly records: number;
  /** Of the records of all languages, 0 to 1. */
  readonly share: number;
  readonly tokens: number | null;
  readonly tokenShare: number | null;
  /** Tokens per record. */
  readonly meanTokens: number | null;
  readonly flops: number | null;
}

export interface LanguageReport extends PartReport {
  /** Name of the source file. */
  readonly file: string;
  readonly sha256: string;
  /** Tokens per record over those of English: how much more the same text costs. null without English. */
  readonly relativeToEnglish: number | null;
  /** The same without the tokens of the prompt template, which is English in every record. */
  readonly textRelativeToEnglish: number | null;
  /** Records cut at the cutoff. */
  readonly truncated: number | null;
  /** Records in which nothing carries loss; `train` leaves them out. */
  readonly withoutTarget: number | null;
  /** Malformed records left out. */
  readonly bad: number;
}

export interface FileReport {
  readonly file: string;
  readonly sha256: string;
  readonly records: number;
  readonly tokens: number | null;
  readonly flops: number | null;
  /** By language code; only languages that are in the file. */
  readonly perLanguage: Readonly<Record<string, PartReport>>;
}

export interface BudgetReport {
  readonly unit: BudgetUnit;
  /** N. */
  readonly languages: number;
  /** T = N x C: all of the data that the condition draws on. */
  readonly total: Cost;
  /** C = T / N, not always a whole number. */
  readonly perLanguage: Cost;
  /** What the file was filled up to, in `unit`; null: nothing was filled. */
  readonly target: number | null;
  /** Of `target`, not used. */
  readonly short: number | null;
  /** The condition's cost over C, unit by unit. */
  readonly costOverC: Cost;
}

/** `mix --json`. */
export interface MixResult {
  readonly condition: Condition;
  readonly sampling: Sampling | null;
  readonly seed: number;
  readonly out: string;
  /** Path of the manifest. */
  readonly manifest: string;
  readonly files: readonly FileReport[];
  /** Of all files, one pass over each: a run costs this times its epochs. */
  readonly cost: Cost;
  readonly budget: BudgetReport;
  /** The source data by language code. */
  readonly languages: Readonly<Record<string, LanguageReport>>;
  readonly findings: readonly Finding[];
}

export function reportLanguages(
  languages: readonly LanguageData[],
  names: readonly string[],
  { work, templateTokens }: Pick<CostBasis, "work" | "templateTokens">,
): Record<string, LanguageReport> {
  const whole = languages.map(({ index }) => Int32Array.from(index.starts, (_, record) => record));
  const parts = reportParts(whole, languages, work);
  const textTokens = languages.map((data) => meanTextTokens(data, templateTokens));
  const english = languages.findIndex(({ language }) => language === "en");
  const overEnglish = (values: readonly (number | null)[], i: number): number | null => {
    const [mine, other] = [values[i] ?? null, values[english] ?? null];
    return mine === null || other === null ? null : mine / other;
  };
  const meanTokens = languages.map(({ language }) => parts[language]!.meanTokens);
  return Object.fromEntries(
    languages.map(({ language, sha256, counts, bad }, i) => {
      const part = parts[language]!;
      const ratios = { relativeToEnglish: overEnglish(meanTokens, i), textRelativeToEnglish: overEnglish(textTokens, i) };
      const truncated = counts?.truncated.reduce((sum, one) => sum + one, 0) ?? null;
      const withoutTarget = counts?.targetTokens.filter((targets) => targets === 0).length ?? null;
      return [language, { file: names[i]!, sha256, ...part, ...ratios, truncated, withoutTarget, bad: bad.length }];
    }),
  );
}

/** Tokens of a record's own texts, on average. */
function meanTextTokens({ counts, index }: LanguageData, template: CostBasis["templateTokens"]): number | null {
  if (counts === null || template === null) return null;
  const own = counts.tokens.map((tokens, i) => tokens - (index.hasInput[i] === 1 ? template.withInput : template.withoutInput));
  return own.reduce((sum, tokens) => sum + tokens, 0) / own.length;
}

export function reportFile(
  { name, parts }: PlannedFile,
  sha256: string,
  languages: readonly LanguageData[],
  work: TrainingWork | null,
): FileReport {
  const { examples, tokens, flops } = addCosts(parts.map((records, i) => costOf(records, languages[i]!.counts, work)));
  return { file: name, sha256, records: examples, tokens, flops, perLanguage: reportParts(parts, languages, work) };
}

function reportParts(parts: Sample, languages: readonly LanguageData[], work: TrainingWork | null): Record<string, PartReport> {
  const costs = parts.map((records, i) => costOf(records, languages[i]!.counts, work));
  const all = addCosts(costs);
  const reports = costs.map(({ examples, tokens, flops }): PartReport => {
    const hasTokens = tokens !== null && all.tokens !== null;
    return {
      records: examples,
      share: examples / all.examples,
      tokens,
      tokenShare: hasTokens ? tokens / all.tokens : null,
      meanTokens: hasTokens ? tokens / examples : null,
      flops,
    };
  });
  return Object.fromEntries(reports.flatMap((report, i) => (report.records > 0 ? [[languages[i]!.language, report]] : [])));
}

export function reportBudget(
  unit: BudgetUnit,
  plan: MixPlan,
  strata: readonly Stratum[],
  languages: readonly LanguageData[],
  work: TrainingWork | null,
): { readonly cost: Cost; readonly budget: BudgetReport } {
  const costOfAll = (sample: Sample): Cost => addCosts(sample.map((records, i) => costOf(records, languages[i]!.counts, work)));
  const cost = addCosts(plan.files.map(({ parts }) => costOfAll(parts)));
  const total = costOfAll(plan.pool);
  const perLanguage = divideCost(total, languages.length);
  const over = (key: BudgetUnit): number | null => {
    const [mine, c] = [cost[key], perLanguage[key]];
    return mine === null || c === null ? null : mine / c;
  };
  const spent = plan.files.reduce((sum, { parts }) => sum + poolCost(strata, parts), 0n);
  return {
    cost,
    budget: {
      unit,
      languages: languages.length,
      total,
      perLanguage,
      target: plan.target === null ? null : Number(plan.target),
      short: plan.target === null ? null : Number(plan.target - spent),
      costOverC: { examples: over("examples") ?? 0, tokens: over("tokens"), flops: over("flops") },
    },
  };
}
