/** Keeps state.json up to date while a job runs: its beginning, its progress now and then, its end. */
import type { PolypacaError } from "../errors.js";
import type { Progress } from "../train/progress.js";
import type { JobFolder, JobProgress, JobState, JobStatus } from "./job-folder.js";

/** Least time between two writes of progress: each is synced. */
const progressEveryMs = 2_000;

export interface Process {
  readonly pid: number;
  readonly host: string;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly peakMemoryBytes: () => number;
}

export class JobStateWriter {
  readonly #folder: JobFolder;
  readonly #process: Process;
  #state: JobState;
  readonly #secondsBefore: number;
  readonly #began: number;
  #writtenAt: number;
  /** Writes one after the other, so that an older state never replaces a newer one. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(folder: JobFolder, process: Process, before: JobState | null) {
    this.#folder = folder;
    this.#process = process;
    this.#began = process.now();
    this.#writtenAt = this.#began;
    this.#secondsBefore = before?.seconds ?? 0;
    this.#state = {
      ...{ status: "running", attempts: (before?.attempts ?? 0) + 1, pid: process.pid, host: process.host },
      ...{ startedAt: new Date(this.#began).toISOString(), endedAt: null, seconds: this.#secondsBefore, progress: null },
      ...{ peakMemoryBytes: null, result: null, error: null },
    };
  }

  /** @param before of an earlier attempt */
  static async begin(folder: JobFolder, process: Process, before: JobState | null): Promise<JobStateWriter> {
    const writer = new JobStateWriter(folder, process, before);
    await writer.#write();
    return writer;
  }

  async end(
    status: Exclude<JobStatus, "running">,
    { result = null, error = null }: { readonly result?: unknown; readonly error?: PolypacaError | null },
  ) {
    const endedAt = new Date(this.#process.now()).toISOString();
    this.#state = {
      ...{ ...this.#state, status, endedAt, result, peakMemoryBytes: this.#process.peakMemoryBytes() },
      error: error && { code: error.code, message: error.message },
    };
    await this.#write();
  }

  /** Shows progress to `inner`, and keeps it in the state. */
  track(task: { readonly label: string; readonly start: number; readonly total: number }, inner: Progress): Progress {
    const since = new Date(this.#process.now()).toISOString();
    const update = (done: number, detail: string): void => {
      inner.update(done, detail);
      this.#progress({ ...task, done, detail, since, at: new Date(this.#process.now()).toISOString() });
    };
    return { ...inner, update };
  }

  #progress(progress: JobProgress): void {
    this.#state = { ...this.#state, progress };
    if (this.#process.now() - this.#writtenAt < progressEveryMs) return;
    this.#writtenAt = this.#process.now();
    void this.#write().catch(() => {}); // a full disk stops the job where it writes its results; the end is written in any case
  }

  #write(): Promise<void> {
    this.#state = { ...this.#state, seconds: this.#secondsBefore + (this.#process.now() - this.#began) / 1000 };
    const state = this.#state;
    const written = this.#writing.then(() => this.#folder.writeState(state));
    this.#writing = written.catch(() => {});
    return written;
  }
}
