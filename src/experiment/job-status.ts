/** How a grid's jobs stand, from their folders alone: while runners work, from another process, and after a crash. */
import { join } from "node:path";
import { JobFolder, type JobState } from "./job-folder.js";

/**
 * `waiting`: not begun; `blocked`: a job that it depends on has failed, or is blocked itself; `interrupted`: begun and not ended, and no
 * living process has it.
 */
export type Standing = "waiting" | "running" | "done" | "failed" | "interrupted" | "blocked";

export const standings = ["done", "running", "waiting", "interrupted", "failed", "blocked"] as const satisfies readonly Standing[];

/** Of a job in a plan. */
export interface PlannedJob {
  readonly folder: string;
  readonly dependsOn: readonly string[];
}

export interface JobStanding<Job extends PlannedJob> {
  readonly job: Job;
  readonly standing: Standing;
  /** null: not begun. */
  readonly state: JobState | null;
}

/** What a folder says of its job; blocked jobs are found by {@link standingsOf}. */
export interface FolderStanding {
  readonly standing: Exclude<Standing, "blocked">;
  readonly state: JobState | null;
}

/** @param now milliseconds since 1970 */
export function readStanding(folder: JobFolder, now: number): FolderStanding {
  const isHeld = folder.isHeld(now);
  const state = folder.state(); // after the lock: whoever gave it back had written how it ended
  if (state === null) return { standing: isHeld ? "running" : "waiting", state };
  if (state.status === "done" || (state.status === "failed" && !isHeld)) return { standing: state.status, state };
  return { standing: isHeld ? "running" : "interrupted", state };
}

/** @param jobs a job after those it depends on */
export function standingsOf<Job extends PlannedJob>(jobs: readonly Job[], read: (job: Job) => FolderStanding): JobStanding<Job>[] {
  const found = new Map<string, Standing>();
  return jobs.map((job) => {
    const { standing: own, state } = read(job);
    const isStopped = job.dependsOn.some((name) => found.get(name) === "failed" || found.get(name) === "blocked");
    const standing = isStopped && own !== "done" && own !== "running" && own !== "failed" ? "blocked" : own;
    found.set(job.folder, standing);
    return { job, standing, state };
  });
}

/** @param jobsFolder of all jobs */
export function readStandings<Job extends PlannedJob>(jobsFolder: string, jobs: readonly Job[], now: number): JobStanding<Job>[] {
  return standingsOf(jobs, ({ folder }) => readStanding(new JobFolder(join(jobsFolder, folder)), now));
}

export function countStandings(rows: readonly { readonly standing: Standing }[]): Record<Standing, number> {
  const counts = Object.fromEntries(standings.map((standing) => [standing, 0])) as Record<Standing, number>;
  for (const { standing } of rows) counts[standing]++;
  return counts;
}
