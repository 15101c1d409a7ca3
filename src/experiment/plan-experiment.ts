/** From a grid to a plan: every job with its folder, its cost and how it stands; and the record that `status` reads. */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { expandGrid, type System } from "./expand-grid.js";
import type { Grid } from "./grid.js";
import { type IdentifiedJob, identifyJobs } from "./identify-jobs.js";
import { type JobKind, jobKinds } from "./job.js";
import { type CostEnvironment, costGrid, type JobCost } from "./job-costs.js";
import { prepareJobFolder } from "./job-folder.js";

export const experimentFileName = "experiment.json";

/** A job in experiment.json. */
export interface ExperimentJob {
  readonly folder: string;
  readonly kind: JobKind;
  readonly name: string;
  readonly hash: string;
  /** Folders of jobs. */
  readonly dependsOn: readonly string[];
  readonly cost: JobCost;
  readonly memoryBytes: number | null;
}

export type PlanSystem = Omit<System, "runs"> & {
  /** Folders of its training jobs. */
  readonly runs: readonly string[];
};

/** experiment.json: the grid as it was last run. */
export interface ExperimentRecord {
  readonly polypaca: string;
  /** The grid's settings, without what was found out of its models. */
  readonly grid: object;
  /** Folder of the jobs' folders, relative to that of the experiment. */
  readonly jobsDir: string;
  readonly systems: readonly PlanSystem[];
  /** A job comes after those it depends on. */
  readonly jobs: readonly ExperimentJob[];
}

export interface ExperimentPlan {
  readonly out: string;
  readonly record: ExperimentRecord;
  readonly identified: readonly IdentifiedJob[];
  readonly missing: readonly string[];
  readonly notes: readonly string[];
}

/**
 * Plans a grid; writes nothing but token counts into their cache.
 *
 * @throws PolypacaError as {@link expandGrid}, {@link identifyJobs} and {@link costGrid} do
 */
export async function planExperiment(grid: Grid, version: string, environment: CostEnvironment): Promise<ExperimentPlan> {
  const { jobs, systems } = expandGrid(grid);
  const { jobs: identified, missing } = await identifyJobs(jobs);
  const { jobs: costs, notes } = await costGrid(grid, jobs, environment);
  const folderOf = foldersByKey(identified);
  const planned = identified.map(({ job, hash, folder, dependsOn }): ExperimentJob => {
    const cost = costs.get(job.key)!;
    return { folder, kind: job.kind, name: job.name, hash, dependsOn, cost, memoryBytes: cost.memoryBytes };
  });
  const placed = systems.map((system): PlanSystem => ({ ...system, runs: system.runs.map((key) => folderOf.get(key)!) }));
  const jobsDir = relative(grid.out, grid.jobsDir);
  const settings = { ...grid, models: grid.models.map(({ spec: _, ...model }) => model) };
  return {
    out: grid.out,
    record: { polypaca: version, grid: settings, jobsDir, systems: placed, jobs: planned },
    identified,
    missing,
    notes,
  };
}

function foldersByKey(identified: readonly IdentifiedJob[]): ReadonlyMap<string, string> {
  return new Map(identified.map(({ job, folder }) => [job.key, folder]));
}

/**
 * Makes the experiment's folder: experiment.json, and every job's folder ready for the single-job entry point.
 *
 * @throws PolypacaError `NOT_FOUND` where an input is missing; `IO`, `DISK_FULL`
 */
export async function prepareExperiment({ out, record, identified, missing }: ExperimentPlan): Promise<void> {
  if (missing.length > 0)
    throw new PolypacaError("NOT_FOUND", `the grid reads what is not there:\n${missing.map((path) => `  ${path}`).join("\n")}`);
  const folder = jobsFolderOf(out, record);
  for (const made of [out, folder]) {
    await mkdir(made, { recursive: true }).catch((cause: unknown) => {
      throw PolypacaError.from(cause);
    });
  }
  const folderOf = foldersByKey(identified);
  for (const job of identified) await prepareJobFolder(folder, job, folderOf, record.polypaca);
  const path = join(out, experimentFileName);
  const text = `${JSON.stringify(record, null, 2)}\n`;
  if (!existsSync(path) || (await readFile(path, "utf8")) !== text) await writeFileAtomic(path, text);
}

/**
 * The experiment in `out`.
 *
 * @throws PolypacaError `NOT_FOUND` where none was begun; `BAD_CONFIG`
 */
export async function readExperiment(out: string): Promise<ExperimentRecord> {
  const path = join(out, experimentFileName);
  if (!existsSync(path))
    throw new PolypacaError("NOT_FOUND", `${path}: no experiment was begun there. Begin it with: polypaca experiment run GRID.yaml`);
  try {
    const record = JSON.parse(await readFile(path, "utf8")) as ExperimentRecord;
    if (!Array.isArray(record.jobs)) throw new TypeError("jobs are missing");
    return record;
  } catch (cause) {
    throw new PolypacaError("BAD_CONFIG", `${path}: not the record of an experiment (${(cause as Error).message}).`, { cause });
  }
}

export function jobsFolderOf(out: string, { jobsDir }: Pick<ExperimentRecord, "jobsDir">): string {
  return resolve(out, jobsDir);
}

/** Of a grid that shares its jobs' folder with others nobody can say what is not used. */
const ownJobsDir = "jobs";
const jobFolderName = new RegExp(`^(${jobKinds.join("|")})-.*-[0-9a-f]{8}$`);

/** Folders of jobs that the grid no longer has: of settings as they were. */
export async function unusedFolders(out: string, { jobs, jobsDir }: Pick<ExperimentRecord, "jobs" | "jobsDir">): Promise<string[]> {
  if (jobsDir !== ownJobsDir) return [];
  const used = new Set(jobs.map(({ folder }) => folder));
  const there = await readdir(join(out, jobsDir)).catch(() => []);
  return there.filter((name) => jobFolderName.test(name) && !used.has(name)).sort();
}
