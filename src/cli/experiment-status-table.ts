/** `experiment status`: how jobs stand, as data and as text. */
import type { JobProgress, JobState } from "../experiment/job-folder.js";
import type { Standing } from "../experiment/job-status.js";
import type { ExperimentRecord } from "../experiment/plan-experiment.js";
import { formatDuration } from "../train/progress.js";
import { alignedRows } from "./aligned-rows.js";

/** `experiment status --json`. */
export interface StatusReport {
  readonly out: string;
  readonly counts: Readonly<Record<Standing, number>>;
  readonly jobs: readonly StatusJob[];
  /** Folders of jobs that the grid no longer has; they may be deleted. */
  readonly unused: readonly string[];
}

export interface StatusJob {
  readonly folder: string;
  readonly kind: string;
  readonly standing: Standing;
  readonly attempts: number;
  /** Of all attempts. */
  readonly seconds: number;
  readonly progress: JobProgress | null;
  /** Predicted by the rate of this attempt; null: not running, or no progress yet. */
  readonly secondsLeft: number | null;
  readonly error: JobState["error"];
  readonly dependsOn: readonly string[];
}

/** @param now milliseconds since 1970 */
export async function statusReport(out: string, record: ExperimentRecord, now: number): Promise<StatusReport> {
  const [{ countStandings, readStandings }, { jobsFolderOf, unusedFolders }] = await Promise.all([
    import("../experiment/job-status.js"),
    import("../experiment/plan-experiment.js"),
  ]);
  const rows = readStandings(jobsFolderOf(out, record), record.jobs, now);
  const jobs = rows.map(({ job, standing, state }): StatusJob => {
    const isRunning = standing === "running";
    const seconds = (state?.seconds ?? 0) + (isRunning ? secondsSinceProgress(state, now) : 0);
    return {
      ...{ folder: job.folder, kind: job.kind, standing, attempts: state?.attempts ?? 0, seconds, progress: state?.progress ?? null },
      ...{ secondsLeft: isRunning ? secondsLeft(state?.progress ?? null) : null, dependsOn: job.dependsOn },
      error: standing === "failed" ? (state?.error ?? null) : null,
    };
  });
  return { out, counts: countStandings(rows), jobs, unused: await unusedFolders(out, record) };
}

/** The state is written now and then. */
function secondsSinceProgress(state: JobState | null, now: number): number {
  const at = state?.progress?.at ?? state?.startedAt;
  return at === undefined ? 0 : Math.max(0, (now - Date.parse(at)) / 1000);
}

function secondsLeft(progress: JobProgress | null): number | null {
  if (progress === null || progress.done <= progress.start) return null;
  const seconds = (Date.parse(progress.at) - Date.parse(progress.since)) / 1000;
  return (seconds / (progress.done - progress.start)) * (progress.total - progress.done);
}

/** @param lines of the screen: what does not fit is left out, done jobs first; undefined: everything is shown */
export function describeStatus({ out, counts, jobs, unused }: StatusReport, lines?: number): string {
  const heading = `${out}: ${Object.entries(counts)
    .flatMap(([standing, number]) => (number > 0 ? [`${number} ${standing}`] : []))
    .join(", ")}`;
  const shown = lines === undefined ? jobs : fitting(jobs, lines - 5);
  const rows = shown.map(({ standing, folder, progress, secondsLeft: left, seconds, error }) => {
    const isOpen = standing === "running" || standing === "interrupted";
    const share = isOpen && progress !== null ? `${progress.done}/${progress.total}` : "";
    const detail = error === null ? (isOpen ? (progress?.detail ?? "") : "") : `${error.code}: ${error.message.split("\n")[0]}`;
    return [
      standing,
      folder,
      share,
      seconds > 0 ? formatDuration(1000 * seconds) : "",
      left === null ? "" : `ETA ${formatDuration(1000 * left)}`,
      detail,
    ];
  });
  const hidden = jobs.length - shown.length;
  return [
    heading,
    ...alignedRows([["state", "job", "progress", "time", "", ""], ...rows], "left"),
    ...(hidden > 0 ? [`and ${hidden} more: --once shows all`] : []),
    ...(unused.length > 0
      ? [`${unused.length} folders of earlier settings are not used: ${unused.slice(0, 3).join(", ")}${unused.length > 3 ? ", …" : ""}`]
      : []),
  ].join("\n");
}

const interest: Readonly<Record<Standing, number>> = { running: 0, failed: 1, interrupted: 2, waiting: 3, blocked: 4, done: 5 };

function fitting(jobs: readonly StatusJob[], lines: number): readonly StatusJob[] {
  if (jobs.length <= lines) return jobs;
  const chosen = new Set([...jobs].sort((a, b) => interest[a.standing] - interest[b.standing]).slice(0, Math.max(1, lines)));
  return jobs.filter((job) => chosen.has(job));
}
