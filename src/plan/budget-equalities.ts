/** The study's budget: `monolingual` and `multilingual` cost N x C, `english` and `downsampled` C. How far from that each is. */
import { type Cost, divideCost, type Workload, workloadFlops } from "../budget/costs.js";
import type { Condition } from "../budget/mix-settings.js";
import type { Method, TrainingWork } from "../families/work.js";
import { addWorkloads, type PlannedFile } from "./condition-workloads.js";

/** A cost over what it should equal, less 1: 0.02 is 2% more. */
export type Deviation = { readonly [unit in keyof Cost]: number };

/** All costs are of one epoch. */
export interface ConditionBudget {
  readonly condition: Condition;
  readonly budget: "N x C" | "C";
  readonly runs: number;
  /** Of its files, which is what the study holds equal. */
  readonly data: Cost;
  readonly dataDeviation: Deviation;
  /** Without the records that each run holds out for validation. */
  readonly training: Cost;
  readonly trainingDeviation: Deviation;
}

export interface BudgetEquality {
  readonly model: string;
  readonly method: Method;
  /** N. */
  readonly languages: number;
  /** C = T / N, T being the cost of all languages' data. */
  readonly perLanguage: Cost;
  /** The same of what is trained on when each language is trained alone. */
  readonly perLanguageTraining: Cost;
  readonly conditions: readonly ConditionBudget[];
}

export interface ConditionToCompare {
  readonly condition: Condition;
  readonly files: readonly PlannedFile[];
}

/** @param trainingOf the part of a file that is trained on */
export function compareBudgets(
  { model, method, work }: { readonly model: string; readonly method: Method; readonly work: TrainingWork },
  languages: readonly PlannedFile[],
  conditions: readonly ConditionToCompare[],
  trainingOf: (file: PlannedFile) => Workload,
): BudgetEquality {
  const costOf = (workloads: readonly Workload[]): Cost => {
    const all = addWorkloads(workloads);
    return { examples: all.examples, tokens: all.tokens, flops: workloadFlops(all, work) };
  };
  const data = (files: readonly PlannedFile[]): Cost => costOf(files.map(({ workload }) => workload));
  const training = (files: readonly PlannedFile[]): Cost => costOf(files.map(trainingOf));
  const perLanguage = divideCost(data(languages), languages.length);
  const perLanguageTraining = divideCost(training(languages), languages.length);
  return {
    ...{ model, method, languages: languages.length, perLanguage, perLanguageTraining },
    conditions: conditions.map(({ condition, files }) => {
      const isWhole = condition === "monolingual" || condition === "multilingual";
      const times = isWhole ? languages.length : 1;
      return {
        ...{ condition, budget: isWhole ? "N x C" : "C", runs: files.length, data: data(files), training: training(files) },
        dataDeviation: deviation(data(files), perLanguage, times),
        trainingDeviation: deviation(training(files), perLanguageTraining, times),
      };
    }),
  };
}

function deviation(cost: Cost, c: Cost, times: number): Deviation {
  const off = (unit: keyof Cost): number => (cost[unit] ?? Number.NaN) / (times * (c[unit] ?? Number.NaN)) - 1;
  return { examples: off("examples"), tokens: off("tokens"), flops: off("flops") };
}
