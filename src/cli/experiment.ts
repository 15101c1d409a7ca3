import { existsSync, readFileSync, statSync } from "node:fs";
import { availableParallelism, hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { PolypacaError } from "../errors.js";
import type { Grid, GridOverrides } from "../experiment/grid.js";
import type { ExperimentSummary } from "../experiment/run-experiment.js";
import type { Lane } from "../experiment/slots.js";
import { describePlan } from "./experiment-plan-table.js";
import { describeStatus, statusReport } from "./experiment-status-table.js";
import { cacheFolder, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

/** As `mix`: more threads than this would take more memory than time. */
const mostDataThreads = 4;

export function registerExperiment(program: Command): void {
  const command = program
    .command("experiment")
    .summary("run the study's grid: mix, train, generate, judge, score, draw")
    .description("Runs a grid of models, methods, conditions, languages and seeds as jobs that survive whatever ends them.");
  registerRun(command);
  registerStatus(command);
  registerJob(command);
}

interface RunFlags extends GridOverrides {
  readonly dryRun?: true;
  readonly bench?: string;
  readonly slots: number;
  readonly retry?: true;
  readonly retries: number;
  readonly json?: true;
}

function registerRun(experiment: Command): void {
  experiment
    .command("run")
    .summary("run what is not done")
    .description(
      "Prints the plan, then runs what is not done. The same command goes on after any interruption; a changed setting runs exactly what depends on it; several may run on one folder at a time. Exits with 1 where a job has failed.",
    )
    .argument("<GRID.yaml>", "the grid")
    .option("--dry-run", "print the plan and stop")
    .option("--bench <FILE>", "rates that `bench --save` measured on the machine that will train: predicts hours")
    .option("--out <DIR>", "instead of the grid's")
    .option("--models-dir <DIR>", "instead of the grid's")
    .option("--data-dir <DIR>", "instead of the grid's")
    .option("--prompts-dir <DIR>", "instead of the grid's")
    .option(
      "--slots <N>",
      "jobs at a time on each GPU, or on the CPU, whose threads they share",
      numberFlag("--slots", { integer: true, min: 1 }),
      1,
    )
    .option("--retry", "run jobs again that have failed before")
    .option(
      "--retries <N>",
      "further attempts of jobs that were killed or found too little memory",
      numberFlag("--retries", { integer: true, min: 0 }),
      2,
    )
    .option("--json", "print the result as JSON")
    .action(async (file: string, flags: RunFlags) => {
      const { json, dryRun, out, modelsDir, dataDir, promptsDir } = flags;
      const isJson = json === true;
      const { readGrid } = await import("../experiment/grid.js");
      const grid = await readGrid(file, { out, modelsDir, dataDir, promptsDir } as GridOverrides);
      await stoppable((signal) => (dryRun ? showPlan(grid, flags, isJson, signal) : runGrid(grid, flags, isJson, signal)));
    });
}

async function planFor(grid: Grid, bench: string | undefined, signal: AbortSignal) {
  const [{ planExperiment }, { readMeasuredRates }, { loadAddon }, { openProgress }] = await Promise.all([
    import("../experiment/plan-experiment.js"),
    import("../experiment/measured-rates.js"),
    import("../native/load.js"),
    import("../train/progress.js"),
  ]);
  return await planExperiment(grid, await version(), {
    ...{
      addon: loadAddon(),
      signal,
      countsCacheDir: cacheFolder("counts"),
      rates: bench === undefined ? [] : await readMeasuredRates(bench),
      threads: dataThreads(),
    },
    openProgress: (task) => openProgress(task, progressOutput()),
  });
}

async function showPlan(grid: Grid, { bench }: RunFlags, isJson: boolean, signal: AbortSignal): Promise<void> {
  const plan = await planFor(grid, bench, signal);
  const { notes, missing } = plan;
  const report = await statusReport(plan.out, plan.record, Date.now());
  printResult(isJson, { ...plan.record, out: plan.out, missing, notes, counts: report.counts }, () => describePlan(plan, report.counts));
}

async function runGrid(grid: Grid, flags: RunFlags, isJson: boolean, signal: AbortSignal): Promise<void> {
  const plan = await planFor(grid, flags.bench, signal);
  note(describePlan(plan, (await statusReport(plan.out, plan.record, Date.now())).counts));
  const [{ runExperiment }, { openProgress }, lanes] = await Promise.all([
    import("../experiment/run-experiment.js"),
    import("../train/progress.js"),
    lanesOf(grid, flags.slots),
  ]);
  const summary = await runExperiment(
    plan,
    lanes,
    { retryFailed: flags.retry === true, retries: flags.retries },
    {
      ...{ signal, note, now: Date.now, program: { command: [process.execPath, process.argv[1]!], variables: process.env } },
      openProgress: (task) => openProgress(task, progressOutput()),
    },
  );
  printResult(isJson, summary, () => describeSummary(summary));
  if (summary.failed.length > 0) process.exitCode = 1;
}

/** GPUs where jobs would choose them, else the CPU. */
async function lanesOf({ train, generate }: Grid, slots: number): Promise<Lane[]> {
  const [{ loadAddon }, { localLanes }] = await Promise.all([import("../native/load.js"), import("../experiment/slots.js")]);
  const { cudaDevices, threads, memoryAvailable: memoryBytes } = loadAddon().machine();
  const { device = "auto", dtype } = { ...train, ...(generate?.device !== undefined && { device: generate.device }) };
  const usesGpu = device.startsWith("cuda") ? device !== "cuda-emulated" : device === "auto" && dtype !== "fp32";
  const pinned = /^cuda:(\d+)$/.exec(device)?.[1];
  const usable = usesGpu ? cudaDevices.filter(({ index }) => pinned === undefined || index === Number(pinned)) : [];
  const devices = usable.map(({ index, memoryTotal }) => ({ index, memoryBytes: memoryTotal }));
  return localLanes({
    devices,
    isPinned: pinned !== undefined,
    slots,
    threads,
    memoryBytes,
    visibleDevices: process.env.CUDA_VISIBLE_DEVICES,
  });
}

function describeSummary({ out, jobs, failed, results }: ExperimentSummary): string {
  const lines = failed.flatMap(({ folder, error, log, lastLines }) => [
    `failed: ${folder}: ${error?.code ?? "?"}: ${error?.message ?? "no reason was given"}`,
    ...lastLines.map((line) => `  | ${line}`),
    `  log: ${log}`,
  ]);
  if (failed.length > 0) {
    const blocked = jobs.blocked > 0 ? `, which stops ${jobs.blocked} that depend on them` : "";
    lines.push(`${failed.length} jobs failed${blocked}; ${jobs.done} are done. Mend the cause, then run the same command with --retry.`);
  }
  if (results !== null) {
    lines.push(`${jobs.done} jobs done: ${out}`);
    for (const [name, path] of Object.entries(results)) lines.push(`${name.padEnd(10)} ${path}`);
  }
  return lines.join("\n");
}

interface StatusFlags {
  readonly once?: true;
  readonly json?: true;
  readonly out?: string;
}

function registerStatus(experiment: Command): void {
  experiment
    .command("status")
    .description("Shows how a grid's jobs stand: while they run (live on a terminal), from anywhere the folder is seen, and after a crash.")
    .argument("<GRID.yaml|DIR>", "the grid, or its folder")
    .option("--out <DIR>", "instead of the grid's")
    .option("--once", "print the table once, also on a terminal")
    .option("--json", "print the result as JSON")
    .action(async (place: string, { once, json, out }: StatusFlags) => {
      const [{ readExperiment }, folder] = await Promise.all([import("../experiment/plan-experiment.js"), experimentFolder(place, out)]);
      const look = async () => await statusReport(folder, await readExperiment(folder), Date.now());
      const isLive = json !== true && once !== true && process.stdout.isTTY === true;
      if (!isLive) {
        const report = await look();
        printResult(json === true, report, () => describeStatus(report));
        return;
      }
      await showLive(look);
    });
}

async function experimentFolder(place: string, out: string | undefined): Promise<string> {
  if (out !== undefined) return out;
  if (existsSync(place) && statSync(place).isDirectory()) return place;
  const { readGrid } = await import("../experiment/grid.js");
  return (await readGrid(place)).out;
}

/** Of terminals that do not say how high they are. */
const defaultRows = 40;
const clearScreen = "\u001b[H\u001b[2J";

/** Until all is done, or Ctrl-C: there is nothing to save. */
async function showLive(look: () => ReturnType<typeof statusReport>): Promise<void> {
  for (;;) {
    const report = await look();
    process.stdout.write(`${clearScreen}${describeStatus(report, process.stdout.rows || defaultRows)}\n`);
    if (report.counts.done === report.jobs.length) return;
    await sleep(1_000);
  }
}

function registerJob(experiment: Command): void {
  experiment
    .command("job")
    .summary("run one job of a grid")
    .description("Runs the job that a folder describes, or goes on with it: what `run` and cluster schedulers call.")
    .argument("<DIR>", "the job's folder")
    .action(async (path: string) => {
      const [{ runJob }, { heldElsewhereExitCode }, { openProgress }] = await Promise.all([
        import("../experiment/run-job.js"),
        import("../experiment/runner.js"),
        import("../train/progress.js"),
      ]);
      const peakMemoryBytes = (): number => 1024 * process.resourceUsage().maxRSS;
      try {
        await stoppable((signal) =>
          runJob(path, {
            ...{ signal, note, now: Date.now, steadyNow: () => performance.now(), random: Math.random, variables: process.env },
            ...{ cacheDirs: { tokens: cacheFolder("tokens"), counts: cacheFolder("counts") }, threads: dataThreads() },
            openProgress: (task) => openProgress(task, progressOutput()),
            process: { pid: process.pid, host: hostname(), now: Date.now, peakMemoryBytes },
          }),
        );
      } catch (cause) {
        if (PolypacaError.from(cause).code === "RUN_LOCKED") process.exitCode = heldElsewhereExitCode;
        throw cause;
      }
    });
}

function dataThreads(): number {
  return Math.min(mostDataThreads, availableParallelism());
}

async function version(): Promise<string> {
  const { packageRoot } = await import("../native/load.js");
  const { version: found } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
  return found;
}
