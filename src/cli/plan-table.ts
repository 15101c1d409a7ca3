/** The result of `plan` as text: the conditions' budgets, then what each condition's runs take, and the sum. */
import { type Column, formatTable } from "../bench/tables.js";
import type { BudgetEquality, ConditionBudget, Deviation } from "../plan/budget-equalities.js";
import type { PlanResult } from "../plan/plan.js";
import type { JobPlan } from "../plan/plan-grid.js";
import { formatBytes } from "./output.js";

export function describePlan(result: PlanResult): string {
  return [
    hardwareLine(result),
    ...result.budgets.map(budgetTable),
    runTable(result),
    closing(result),
    ...(result.notes.length > 0 ? [result.notes.map((line) => `Note: ${line}.`).join("\n")] : []),
  ].join("\n\n");
}

function hardwareLine({ hardware: { device, dtype, memoryBytes, rates }, languages }: PlanResult): string {
  const memory = memoryBytes === null ? "memory unknown" : formatBytes(memoryBytes);
  return `${device}, ${dtype}, ${memory}${rates === null ? "" : `; rates ${rates}`}\n${languages.length} languages: ${languages.join(", ")}`;
}

function budgetTable({ model, method, languages, perLanguage, conditions }: BudgetEquality): string {
  const off = (unit: keyof Deviation): Column<ConditionBudget> => ({
    title: "off",
    cell: ({ dataDeviation }) => deviation(dataDeviation[unit]),
  });
  const table = formatTable<ConditionBudget>(
    [
      { title: `${model}, ${method}`, cell: ({ condition }) => condition, align: "left" },
      { title: "budget", cell: ({ budget }) => budget, align: "left" },
      { title: "runs", cell: ({ runs }) => String(runs) },
      { title: "examples", cell: ({ data }) => whole(data.examples) },
      off("examples"),
      { title: "tokens", cell: ({ data }) => whole(data.tokens ?? 0) },
      off("tokens"),
      { title: "FLOPs", cell: ({ data }) => scientific(data.flops ?? 0) },
      off("flops"),
      { title: "trained on", cell: ({ training }) => whole(training.examples) },
      { title: "off", cell: ({ trainingDeviation }) => deviation(trainingDeviation.examples) },
    ],
    conditions,
  );
  const { examples, tokens, flops } = perLanguage;
  const amounts = `${whole(examples)} examples, ${whole(tokens ?? 0)} tokens, ${scientific(flops ?? 0)} FLOPs`;
  return `${table}\nof one epoch; N = ${languages}, C = ${amounts}; "trained on" is without validation records, against what monolingual trains on`;
}

/** The runs of a condition. */
interface Row {
  readonly model: string;
  readonly method: string;
  readonly condition: string;
  readonly jobs: readonly JobPlan[];
  /** Those that are not counted elsewhere. */
  readonly own: readonly JobPlan[];
}

function rowsOf(jobs: readonly JobPlan[]): Row[] {
  const rows = new Map<string, JobPlan[]>();
  for (const job of jobs) {
    const key = JSON.stringify([job.model, job.method, job.condition]);
    rows.set(key, [...(rows.get(key) ?? []), job]);
  }
  return [...rows.values()].map((group) => {
    const { model, method, condition } = group[0]!;
    return { model, method, condition: condition ?? "", jobs: group, own: group.filter(({ sameRunAs }) => sameRunAs === null) };
  });
}

function runTable({ jobs, hardware }: PlanResult): string {
  const sum = (row: Row, value: (job: JobPlan) => number | null): number => row.jobs.reduce((total, job) => total + (value(job) ?? 0), 0);
  const columns: Column<Row>[] = [
    { title: "model", cell: ({ model }) => model, align: "left" },
    { title: "method", cell: ({ method }) => method, align: "left" },
    { title: "condition", cell: ({ condition }) => condition, align: "left" },
    { title: "runs", cell: ({ jobs: of }) => String(of.length) },
    { title: "steps each", cell: ({ jobs: of }) => range(of.map(({ steps }) => steps)) },
    { title: "tokens", cell: (row) => scientific(sum(row, ({ tokens }) => tokens)) },
    { title: "FLOPs", cell: (row) => scientific(sum(row, ({ flops }) => flops)) },
    { title: "memory", cell: ({ jobs: of }) => formatBytes(Math.max(...of.map(({ memory }) => memory.total))) },
    ...shownIf<Row>(hardware.memoryBytes !== null, [
      { title: "fits", cell: ({ jobs: of }) => (of.every(({ fits }) => fits) ? "yes" : "NO") },
    ]),
    ...shownIf<Row>(hardware.rates !== null, [{ title: "hours", cell: (row) => hours(sum(row, (job) => job.hours)) }]),
    ...shownIf<Row>(hardware.pricePerHour !== null, [{ title: "cost", cell: (row) => sum(row, ({ cost }) => cost).toFixed(2) }]),
    ...shownIf<Row>(hardware.rates !== null, [{ title: "rate", cell: ({ jobs: of }) => of[0]!.rate?.source ?? "", align: "left" }]),
    { title: "", cell: ({ jobs: of, own }) => (own.length < of.length ? `same run as ${of[0]!.sameRunAs}` : ""), align: "left" },
  ];
  return formatTable(columns, rowsOf(jobs));
}

function closing({ jobs, total, tooLarge, hardware: { memoryBytes } }: PlanResult): string {
  const time = total.hours === null ? "" : `, ${hours(total.hours)} hours on one device, one after the other`;
  const cost = total.cost === null ? "" : `, cost ${total.cost.toFixed(2)}`;
  const shared = jobs.length - total.runs;
  const counted = shared === 0 ? "" : ` (${shared} more are the same runs)`;
  const sum = `${total.runs} runs${counted}: ${scientific(total.tokens)} tokens, ${scientific(total.flops)} FLOPs${time}${cost}`;
  if (memoryBytes === null || tooLarge.length === 0) return memoryBytes === null ? sum : `${sum}; every run fits one device`;
  const lines = rowsOf(jobs.filter(({ fits }) => fits === false)).map(({ model, method, condition, jobs: of }) => {
    const needed = Math.max(...of.map(({ memory }) => memory.total));
    return `${model} ${method} ${condition} (${of.length} ${of.length === 1 ? "run" : "runs"}): needs ${formatBytes(needed)}, one device has ${formatBytes(memoryBytes)}`;
  });
  return `${sum}\nDo not fit one device:\n  ${lines.join("\n  ")}`;
}

function shownIf<T>(isShown: boolean, columns: readonly Column<T>[]): readonly Column<T>[] {
  return isShown ? columns : [];
}

function range(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? whole(low) : `${whole(low)}-${whole(high)}`;
}

function whole(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

function scientific(value: number): string {
  return value === 0 ? "0" : value.toExponential(2);
}

function hours(value: number): string {
  if (value > 0 && value < 0.1) return value.toPrecision(2);
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 });
}

/** 0.0174 as "+1.7%"; "0" for what rounding alone makes. */
function deviation(value: number): string {
  if (Math.abs(value) < 5e-6) return "0";
  return `${value > 0 ? "+" : ""}${(100 * value).toFixed(Math.abs(value) < 5e-4 ? 3 : 1)}%`;
}
