/** What each condition trains on, from what each language's data comes to. */
import { type BudgetUnit, type Workload, workloadFlops } from "../budget/costs.js";
import type { Condition } from "../budget/mix-settings.js";
import type { TrainingWork } from "../families/work.js";

export interface LanguageWorkload {
  readonly language: string;
  readonly workload: Workload;
}

/** A training file of a condition. */
export interface PlannedFile {
  /** null: of several. */
  readonly language: string | null;
  /** Of one pass over it, before validation data is held out. */
  readonly workload: Workload;
}

export interface BudgetRule {
  readonly unit: BudgetUnit;
  /** Trim or repeat English to C. */
  readonly matchBudget: boolean;
  readonly work: TrainingWork;
}

/**
 * The files that `mix` writes. A sample is what is expected of a random one: of each language the same share, in every unit (a drawn
 * one of 52,000 records differs by some parts in a thousand).
 *
 * @returns empty for `english` without English
 */
export function conditionFiles(condition: Condition, languages: readonly LanguageWorkload[], rule: BudgetRule): PlannedFile[] {
  if (condition === "monolingual") return [...languages];
  const whole = addWorkloads(languages.map(({ workload }) => workload));
  if (condition === "multilingual") return [{ language: null, workload: whole }];
  const total = inUnit(whole, rule);
  // Records are whole: a file of C examples has at most so many.
  const c = rule.unit === "examples" ? Math.floor(total / languages.length) : total / languages.length;
  if (condition === "downsampled") return [{ language: null, workload: scaleWorkload(whole, c / total) }];
  const english = languages.find(({ language }) => language === "en");
  if (english === undefined) return [];
  if (!rule.matchBudget) return [english];
  return [{ language: "en", workload: scaleWorkload(english.workload, c / inUnit(english.workload, rule)) }];
}

function inUnit(workload: Workload, { unit, work }: BudgetRule): number {
  return unit === "flops" ? workloadFlops(workload, work) : workload[unit];
}

export function addWorkloads(workloads: readonly Workload[]): Workload {
  const sum = (key: keyof Workload): number => workloads.reduce((total, workload) => total + workload[key], 0);
  return { examples: sum("examples"), tokens: sum("tokens"), targetTokens: sum("targetTokens"), attendedPairs: sum("attendedPairs") };
}

export function scaleWorkload({ examples, tokens, targetTokens, attendedPairs }: Workload, by: number): Workload {
  return { examples: examples * by, tokens: tokens * by, targetTokens: targetTokens * by, attendedPairs: attendedPairs * by };
}

/** Of records that all have the same number of tokens, since nothing more is known: longer and shorter ones attend to more pairs. */
export function uniformWorkload(record: { readonly records: number; readonly tokens: number; readonly targetTokens: number }): Workload {
  const { records, tokens, targetTokens } = record;
  return {
    examples: records,
    tokens: records * tokens,
    targetTokens: records * targetTokens,
    attendedPairs: (records * tokens * (tokens + 1)) / 2,
  };
}
