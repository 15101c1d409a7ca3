/** `experiment run` with the local runner: from a plan to results. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { lockFolder } from "../checkpoint/folder-lock.js";
import { PolypacaError } from "../errors.js";
import type { Progress } from "../train/progress.js";
import { JobFolder, type JobState, jobLock } from "./job-folder.js";
import { countStandings, type JobStanding, readStanding, type Standing } from "./job-status.js";
import { launchProcess, type Program } from "./local-launcher.js";
import { type ExperimentJob, type ExperimentPlan, jobsFolderOf, prepareExperiment } from "./plan-experiment.js";
import { linkResults, type Results } from "./results.js";
import { type RunnerSettings, runJobs } from "./runner.js";
import { type Lane, SlotPool } from "./slots.js";

export interface ExperimentEnvironment {
  readonly signal?: AbortSignal;
  readonly note: (line: string) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly openProgress: (task: { readonly label: string; readonly start: number; readonly total: number }) => Progress;
  /** What starts polypaca. */
  readonly program: Program;
  /** As of {@link runJobs}. */
  readonly pollMs?: number;
  readonly firstRetryMs?: number;
}

/** A job that did not end well, and what may help. */
export interface FailedJob {
  readonly folder: string;
  readonly standing: Standing;
  readonly error: JobState["error"];
  readonly log: string;
  readonly lastLines: readonly string[];
}

export interface ExperimentSummary {
  readonly out: string;
  readonly jobs: Readonly<Record<Standing, number>>;
  readonly failed: readonly FailedJob[];
  /** null: not every job is done. */
  readonly results: Results | null;
}

/**
 * Runs what is not done. Jobs that fail stop only those that depend on them.
 *
 * @throws PolypacaError `NOT_FOUND` where an input is missing; `CANCELLED` when `environment.signal` aborts, after all jobs were stopped
 */
export async function runExperiment(
  plan: ExperimentPlan,
  lanes: readonly Lane[],
  settings: RunnerSettings,
  environment: ExperimentEnvironment,
): Promise<ExperimentSummary> {
  await prepareExperiment(plan);
  const { out } = plan;
  const { jobs } = plan.record;
  const jobsFolder = jobsFolderOf(out, plan.record);
  const folderOf = (job: ExperimentJob): JobFolder => new JobFolder(join(jobsFolder, job.folder));
  const progress = environment.openProgress({ label: "jobs", start: countDone(jobs, folderOf), total: jobs.length });
  try {
    const rows = await runJobs(jobs, new SlotPool(lanes), settings, {
      ...environment,
      read: (job) => readStanding(folderOf(job), environment.now()),
      launch: async (job, slot) => launchProcess(folderOf(job).path, slot, environment.program),
      giveUp: (job, reason) => writeOff(folderOf(job), reason, environment.now),
      onStart: (job) => progress.note(`start  ${job.folder}`),
      onEnd: (job, { standing, state }) => progress.note(`${standing.padEnd(6)} ${job.folder}${describeEnd(state)}`),
      onLook: (rows) => progress.update(rows.filter(({ standing }) => standing === "done").length, describeRunning(rows)),
    });
    return await summarize(plan, rows, folderOf, environment);
  } finally {
    progress.stop();
  }
}

function countDone(jobs: readonly ExperimentJob[], folderOf: (job: ExperimentJob) => JobFolder): number {
  return jobs.filter((job) => folderOf(job).state()?.status === "done").length;
}

function describeEnd(state: JobState | null): string {
  if (state === null) return "";
  return state.error === null ? `, ${Math.round(state.seconds)} s` : `: ${state.error.code}: ${state.error.message.split("\n")[0]}`;
}

function describeRunning(rows: readonly JobStanding<ExperimentJob>[]): string {
  const { running, failed, blocked } = countStandings(rows);
  return [`${running} running`, ...(failed > 0 ? [`${failed} failed`] : []), ...(blocked > 0 ? [`${blocked} blocked`] : [])].join(", ");
}

/** A job whose process ended without saying why, every time: it stays as it is until someone asks for it again. */
async function writeOff(folder: JobFolder, reason: string, now: () => number): Promise<void> {
  const lock = lockFolder(folder.path, now(), jobLock);
  try {
    const state = folder.state();
    if (state?.status === "done") return;
    const endedAt = new Date(now()).toISOString();
    const begun = state ?? {
      attempts: 0,
      pid: process.pid,
      host: "",
      startedAt: endedAt,
      seconds: 0,
      progress: null,
      peakMemoryBytes: null,
    };
    const error = { code: "INTERNAL", message: `${reason}, and did not say why: see ${folder.log}` } as const;
    await folder.writeState({ ...begun, status: "failed", endedAt, result: null, error });
  } finally {
    lock.release();
  }
}

async function summarize(
  { out, record }: ExperimentPlan,
  rows: readonly JobStanding<ExperimentJob>[],
  folderOf: (job: ExperimentJob) => JobFolder,
  { signal }: ExperimentEnvironment,
): Promise<ExperimentSummary> {
  const jobs = countStandings(rows);
  const isDone = jobs.done === rows.length;
  if (!isDone && signal?.aborted) {
    throw new PolypacaError("CANCELLED", `stopped with ${jobs.done} of ${rows.length} jobs done. Run the same command again to go on.`);
  }
  const failed = rows.filter(({ standing }) => standing === "failed");
  return {
    ...{ out, jobs },
    failed: failed.map(({ job, standing, state }) => {
      const { log } = folderOf(job);
      return { folder: job.folder, standing, error: state?.error ?? null, log, lastLines: lastLines(log) };
    }),
    results: isDone ? await linkResults(out, record) : null,
  };
}

const linesShown = 5;

function lastLines(log: string): string[] {
  if (!existsSync(log)) return [];
  return readFileSync(log, "utf8").trimEnd().split("\n").slice(-linesShown);
}
