/** `experiment run`: the plan as text. */
import { jobKinds } from "../experiment/job.js";
import type { Standing } from "../experiment/job-status.js";
import type { ExperimentJob, ExperimentPlan, PlanSystem } from "../experiment/plan-experiment.js";
import { alignedRows } from "./aligned-rows.js";
import { formatBytes } from "./output.js";

export function describePlan({ out, record, missing, notes }: ExperimentPlan, counts: Readonly<Record<Standing, number>>): string {
  const { jobs, systems } = record;
  const numbers = jobKinds.map((kind) => [kind, jobs.filter((job) => job.kind === kind).length] as const);
  const kinds = numbers.filter(([, number]) => number > 0).map(([kind, number]) => `${number} ${kind}`);
  const training = jobs.flatMap(({ cost }) => (cost.training === null ? [] : [cost.training]));
  const sum = (values: readonly (number | null)[]): number => values.reduce<number>((total, value) => total + (value ?? 0), 0);
  const memory = Math.max(0, ...jobs.map(({ memoryBytes }) => memoryBytes ?? 0));
  const totals = [
    `${jobs.length} jobs (${kinds.join(", ")}): ${describeCounts(counts)}`,
    ...(training.length > 0
      ? [`training: ${count(sum(training.map(({ tokens }) => tokens)))} tokens, ${count(sum(training.map(({ flops }) => flops)))} FLOPs`]
      : []),
    ...hoursLine(training.map(({ seconds }) => seconds)),
    `memory: up to ${formatBytes(memory)} a job; disk: up to ${formatBytes(sum(jobs.map(({ cost }) => cost.diskBytes)))} of checkpoints`,
  ];
  return [
    `experiment in ${out}`,
    ...totals.map((line) => `  ${line}`),
    ...(training.length > 0 ? ["", ...alignedRows(systemRows(systems, jobs))] : []),
    ...notes.map((line) => `note: ${line}`),
    ...(missing.length > 0 ? ["", "missing:", ...missing.map((path) => `  ${path}`)] : []),
  ].join("\n");
}

/** Nothing where no rates were given. */
function hoursLine(seconds: readonly (number | null)[]): string[] {
  const known = seconds.filter((value) => value !== null);
  if (known.length === 0) return [];
  const hours = known.reduce((sum, value) => sum + value, 0) / 3600;
  const partly = known.length < seconds.length ? `, ${seconds.length - known.length} runs not counted` : "";
  return [`training time: ${hours.toFixed(hours < 10 ? 2 : 0)} h on one device at the measured rates, validation aside${partly}`];
}

function describeCounts({ done, ...others }: Readonly<Record<Standing, number>>): string {
  const open = Object.entries(others).flatMap(([standing, number]) =>
    number > 0 && standing !== "waiting" ? [`${number} ${standing}`] : [],
  );
  const toDo = Object.values(others).reduce((sum, number) => sum + number, 0);
  return `${done} done, ${toDo} to do${open.length > 0 ? ` (${open.join(", ")})` : ""}`;
}

/** What each system's training costs; a run that several systems share is counted with each. */
function systemRows(systems: readonly PlanSystem[], jobs: readonly ExperimentJob[]): string[][] {
  const costs = new Map(jobs.map(({ folder, cost }) => [folder, cost.training]));
  const rows = systems.map(({ name, runs }) => {
    const of = runs.flatMap((run) => costs.get(run) ?? []);
    const total = (value: (cost: (typeof of)[number]) => number | null): number => of.reduce((sum, cost) => sum + (value(cost) ?? 0), 0);
    const figures = [total(({ examples }) => examples), total(({ trainingExamples }) => trainingExamples), total(({ steps }) => steps)];
    const work = [count(total(({ tokens }) => tokens)), count(total(({ flops }) => flops))];
    return [
      name,
      String(runs.length),
      ...figures.map((value) => value.toLocaleString("en-US")),
      ...work,
      total(({ overC }) => overC).toFixed(3),
    ];
  });
  return [["system", "runs", "examples", "trained on", "steps", "tokens", "FLOPs", "budget/C"], ...rows];
}

/** 1.23M; 4.56e18 beyond what has a letter. */
function count(value: number): string {
  if (value < 1e4) return String(Math.round(value));
  const unit = [
    ["K", 1e3],
    ["M", 1e6],
    ["G", 1e9],
    ["T", 1e12],
    ["P", 1e15],
    ["E", 1e18],
  ].findLast(([, scale]) => value >= (scale as number)) as [string, number];
  return `${(value / unit[1]).toPrecision(3)} ${unit[0]}`;
}
