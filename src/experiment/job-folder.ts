/** A job's folder: settings.json says what is to be done, state.json how far it is, log.txt what it said, output/ holds what came of it. */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { type LockKind, livingHolder } from "../checkpoint/folder-lock.js";
import { type ErrorCode, PolypacaError } from "../errors.js";
import type { IdentifiedJob } from "./identify-jobs.js";
import type { Input, JobContent } from "./job.js";

export const settingsFileName = "settings.json";
export const stateFileName = "state.json";
export const logFileName = "log.txt";
export const jobLock: LockKind = { fileName: "job.lock", work: "running the job" };

/** settings.json: all that the single-job entry point needs, beside the outputs of the jobs in `dependsOn`. */
export type JobRecord = JobContent & {
  readonly polypaca: string;
  readonly hash: string;
  /** Names of folders beside this one. */
  readonly dependsOn: readonly string[];
  /** By path: what the content of inputs from outside was when the job was planned. */
  readonly identities: Readonly<Record<string, string>>;
};

export interface JobProgress {
  /** What is counted: "train", "generate". */
  readonly label: string;
  readonly start: number;
  readonly done: number;
  readonly total: number;
  /** "loss 1.234, 910 tokens/s". */
  readonly detail: string;
  /** ISO 8601: when `start` was where it stood, and when `done` was. */
  readonly since: string;
  readonly at: string;
}

/** `interrupted`: stopped by a signal; what was done is kept, and the next run goes on from there. */
export type JobStatus = "running" | "done" | "failed" | "interrupted";

/** state.json; written by the process that has the job's lock. */
export interface JobState {
  readonly status: JobStatus;
  /** Processes that began the job so far. */
  readonly attempts: number;
  readonly pid: number;
  readonly host: string;
  /** ISO 8601: of this attempt. */
  readonly startedAt: string;
  readonly endedAt: string | null;
  /** Of all attempts together, until `endedAt` or the last progress. */
  readonly seconds: number;
  readonly progress: JobProgress | null;
  /** Of the process. */
  readonly peakMemoryBytes: number | null;
  /** What the job's command would have printed with --json. */
  readonly result: unknown;
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
}

export class JobFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get name(): string {
    return basename(this.path);
  }

  get log(): string {
    return join(this.path, logFileName);
  }

  /** Where a result lies. */
  output(path = ""): string {
    return join(this.path, "output", path);
  }

  /** Where an input lies: of another job, in the folder beside this one. */
  inputPath(input: Input, folderOf: (job: string) => string): string {
    return input.kind === "output" ? new JobFolder(join(dirname(this.path), folderOf(input.job))).output(input.path) : input.path;
  }

  /** null: the job has not begun. */
  state(): JobState | null {
    const path = join(this.path, stateFileName);
    if (!existsSync(path)) return null;
    try {
      return JSON.parse(readFileSync(path, "utf8")) as JobState;
    } catch (cause) {
      throw new PolypacaError(
        "BAD_CONFIG",
        `${path}: not the state of a job (${(cause as Error).message}). Delete it to begin the job anew.`,
        {
          cause,
        },
      );
    }
  }

  async writeState(state: JobState): Promise<void> {
    await writeFileAtomic(join(this.path, stateFileName), `${JSON.stringify(state, null, 2)}\n`);
  }

  /** Whether a living process has the job. */
  isHeld(now: number): boolean {
    return livingHolder(this.path, jobLock.fileName, now) !== null;
  }

  /** @throws PolypacaError `NOT_FOUND`, `BAD_CONFIG` */
  async record(): Promise<JobRecord> {
    const path = join(this.path, settingsFileName);
    const text = await readFile(path, "utf8").catch((cause: unknown) => {
      throw new PolypacaError("NOT_FOUND", `${path}: no job is described there. Give a folder that \`experiment run\` made.`, { cause });
    });
    try {
      const record = JSON.parse(text) as JobRecord;
      if (typeof record.hash !== "string" || typeof record.kind !== "string") throw new TypeError("hash and kind are missing");
      return record;
    } catch (cause) {
      throw new PolypacaError("BAD_CONFIG", `${path}: not the settings of a job (${(cause as Error).message}).`, { cause });
    }
  }
}

/**
 * Makes a job's folder ready to be run by the single-job entry point; what is there already stays.
 *
 * @param jobsFolder of all jobs
 * @throws PolypacaError `IO`, `DISK_FULL`; `INTERNAL` where another job of that name has the folder
 */
export async function prepareJobFolder(
  jobsFolder: string,
  identified: IdentifiedJob,
  folderOf: ReadonlyMap<string, string>,
  version: string,
) {
  const { job, hash, folder, dependsOn, identities } = identified;
  const { key: _, inputs, ...content } = job;
  const jobFolder = new JobFolder(join(jobsFolder, folder));
  // Inputs name the folders of other jobs: keys are of one grid, and the folder is read without it.
  const placed = Object.entries(inputs).map(([name, list]) => [name, list.map((input) => placeInput(input, folderOf))] as const);
  const record = { polypaca: version, hash, ...content, inputs: Object.fromEntries(placed), dependsOn, identities };
  const text = `${JSON.stringify(record, null, 2)}\n`;
  const path = join(jobFolder.path, settingsFileName);
  if (existsSync(path)) {
    const there = await jobFolder.record();
    if (there.hash !== hash) throw new PolypacaError("INTERNAL", `${path}: is of another job (${there.hash}, not ${hash}).`);
    if ((await readFile(path, "utf8")) === text) return jobFolder;
  }
  await mkdir(jobFolder.path, { recursive: true });
  await writeFileAtomic(path, text);
  return jobFolder;
}

function placeInput(input: Input, folderOf: ReadonlyMap<string, string>): Input {
  return input.kind === "output" ? { ...input, job: folderOf.get(input.job)! } : input;
}
