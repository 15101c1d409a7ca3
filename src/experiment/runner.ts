/**
 * Runs a grid's jobs until nothing more can be done: whatever is ready and for which there is room. Which process runs a job, and where, is
 * the launcher's affair. Several runners may work on one folder: a job is whose lock it is, and all see each other's jobs by their folders.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ErrorCode } from "../errors.js";
import type { JobKind } from "./job.js";
import type { FolderStanding, JobStanding, PlannedJob } from "./job-status.js";
import { standingsOf } from "./job-status.js";
import type { Slot, SlotPool } from "./slots.js";

export interface RunnableJob extends PlannedJob {
  readonly kind: JobKind;
  /** Predicted, of a job that computes on a device; null: not known. */
  readonly memoryBytes: number | null;
}

/** How a job's process ended; its state says more. */
export interface JobExit {
  /** null: by a signal. */
  readonly code: number | null;
  readonly signal: string | null;
}

export interface LaunchedJob {
  readonly ended: Promise<JobExit>;
  /** Asks it to save and stop. */
  stop(): void;
}

/** A job's process ends with this where another process has the job. */
export const heldElsewhereExitCode = 75; // EX_TEMPFAIL of sysexits.h

export interface RunnerSettings {
  /** Run jobs again that have failed before. */
  readonly retryFailed: boolean;
  /** Further attempts of a job whose process was killed, or that found too little memory. */
  readonly retries: number;
}

export interface RunnerEnvironment<Job extends RunnableJob> {
  readonly signal?: AbortSignal;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly read: (job: Job) => FolderStanding;
  readonly launch: (job: Job, slot: Slot) => Promise<LaunchedJob>;
  /** Writes a job off whose process was killed again and again. */
  readonly giveUp: (job: Job, reason: string) => Promise<void>;
  readonly onStart?: (job: Job) => void;
  readonly onEnd?: (job: Job, standing: FolderStanding) => void;
  /** Called now and then with how all jobs stand. */
  readonly onLook?: (rows: readonly JobStanding<Job>[]) => void;
  /** Between two looks at other runners' jobs; default 1,000. */
  readonly pollMs?: number;
  /** Before the first further attempt, doubled with each; default 2,000. */
  readonly firstRetryMs?: number;
}

/** Failures that may be over the next time. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["OUT_OF_MEMORY", "RUN_LOCKED"]);

interface Running {
  readonly slot: Slot;
  readonly launched: LaunchedJob;
}

/** @returns how the jobs stand at the end */
export async function runJobs<Job extends RunnableJob>(
  jobs: readonly Job[],
  pool: SlotPool,
  settings: RunnerSettings,
  environment: RunnerEnvironment<Job>,
): Promise<JobStanding<Job>[]> {
  return await new Runner(jobs, pool, settings, environment).run();
}

class Runner<Job extends RunnableJob> {
  readonly #jobs: readonly Job[];
  readonly #pool: SlotPool;
  readonly #settings: RunnerSettings;
  readonly #environment: RunnerEnvironment<Job>;
  readonly #running = new Map<string, Running>();
  /** Known to be done: never read again. */
  readonly #done = new Map<string, FolderStanding>();
  /** Failed before this runner began, and to be run again. */
  readonly #forgiven = new Set<string>();
  readonly #crashes = new Map<string, number>();
  /** Not before. */
  readonly #waitUntil = new Map<string, number>();
  /** Of the runner's own work, not of a job: a state that cannot be read or written. */
  #failure: { readonly cause: unknown } | null = null;
  #wake: () => void = () => {};

  constructor(jobs: readonly Job[], pool: SlotPool, settings: RunnerSettings, environment: RunnerEnvironment<Job>) {
    this.#jobs = jobs;
    this.#pool = pool;
    this.#settings = settings;
    this.#environment = environment;
  }

  async run(): Promise<JobStanding<Job>[]> {
    const { signal, onLook, pollMs = 1_000 } = this.#environment;
    if (this.#settings.retryFailed) for (const { job, standing } of this.#look()) if (standing === "failed") this.#forgiven.add(job.folder);
    const onAbort = (): void => {
      for (const { launched } of this.#running.values()) launched.stop();
      this.#wake();
    };
    signal?.addEventListener("abort", onAbort);
    try {
      for (;;) {
        if (this.#failure !== null) throw this.#failure.cause;
        const rows = this.#look();
        onLook?.(rows);
        const started = signal?.aborted ? 0 : await this.#startReady(rows);
        if (started > 0) continue;
        if (this.#running.size === 0 && (signal?.aborted || !this.#mayChange(rows))) return rows;
        await this.#pause(pollMs);
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #look(): JobStanding<Job>[] {
    return standingsOf(this.#jobs, (job) => {
      const known = this.#done.get(job.folder);
      if (known !== undefined) return known;
      const found = this.#environment.read(job);
      if (found.standing === "done") this.#done.set(job.folder, found);
      if (found.standing === "failed" && this.#forgiven.has(job.folder)) return { ...found, standing: "waiting" };
      return found;
    });
  }

  async #startReady(rows: readonly JobStanding<Job>[]): Promise<number> {
    const standing = new Map(rows.map((row) => [row.job.folder, row.standing]));
    let started = 0;
    for (const { job } of rows.filter((row) => this.#isToDo(row))) {
      if (!job.dependsOn.every((name) => standing.get(name) === "done")) continue;
      if ((this.#waitUntil.get(job.folder) ?? 0) > this.#environment.now()) continue;
      const slot = this.#pool.take(job);
      if (slot === null) continue;
      await this.#start(job, slot);
      started++;
    }
    return started;
  }

  #isToDo({ job, standing }: JobStanding<Job>): boolean {
    return (standing === "waiting" || standing === "interrupted") && !this.#running.has(job.folder);
  }

  async #start(job: Job, slot: Slot): Promise<void> {
    this.#forgiven.delete(job.folder);
    const launched = await this.#environment.launch(job, slot);
    this.#running.set(job.folder, { slot, launched });
    this.#environment.onStart?.(job);
    void launched.ended
      .then((exit) => this.#settle(job, exit))
      .catch((cause: unknown) => {
        this.#failure ??= { cause };
      })
      .finally(() => {
        this.#pool.give(slot);
        this.#running.delete(job.folder);
        this.#wake();
      });
    if (this.#environment.signal?.aborted) launched.stop(); // while it was launched
  }

  async #settle(job: Job, { code, signal }: JobExit): Promise<void> {
    const { onEnd, now, read, giveUp, firstRetryMs = 2_000 } = this.#environment;
    if (code === heldElsewhereExitCode) {
      this.#waitUntil.set(job.folder, now() + firstRetryMs); // its state is not yet there to be seen
      return;
    }
    const found = read(job);
    const isPassing = found.standing === "failed" && passing.has(found.state!.error!.code);
    const isCrash = found.standing === "interrupted" || found.standing === "waiting" || isPassing;
    if (isCrash && !this.#environment.signal?.aborted) {
      const crashes = (this.#crashes.get(job.folder) ?? 0) + 1;
      this.#crashes.set(job.folder, crashes);
      const how = signal === null ? `ended with ${code}` : `was ended by ${signal}`;
      if (crashes <= this.#settings.retries) {
        this.#waitUntil.set(job.folder, now() + firstRetryMs * 2 ** (crashes - 1));
        if (isPassing) this.#forgiven.add(job.folder);
      } else if (!isPassing) await giveUp(job, `its process ${how}, ${crashes === 1 ? "once" : `${crashes} times`}`);
    }
    onEnd?.(job, read(job));
  }

  /** Whether anything is still to come: jobs of other runners, or a further attempt. */
  #mayChange(rows: readonly JobStanding<Job>[]): boolean {
    return rows.some((row) => row.standing === "running" || (this.#isToDo(row) && this.#canBecomeReady(row.job, rows)));
  }

  #canBecomeReady(job: Job, rows: readonly JobStanding<Job>[]): boolean {
    return job.dependsOn.every((name) => rows.find((row) => row.job.folder === name)?.standing === "done");
  }

  /** Until a job ends, or it is time to look at the others. */
  async #pause(milliseconds: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await sleep(milliseconds, undefined, { signal: woken.signal }).catch(() => {});
    this.#wake = () => {};
  }
}
