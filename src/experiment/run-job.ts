/** The single-job entry point: what `experiment job DIR` does, whoever calls it (the local runner, a Slurm array, a person). */
import { dirname, join } from "node:path";
import { lockFolder } from "../checkpoint/folder-lock.js";
import { PolypacaError } from "../errors.js";
import { JobFolder, type JobRecord, jobLock } from "./job-folder.js";
import { JobStateWriter, type Process } from "./job-state-writer.js";
import { runTask, type TaskEnvironment } from "./job-tasks.js";

export interface JobEnvironment extends TaskEnvironment {
  readonly process: Process;
}

/** `already done`: by another process, while this one started. */
export type JobOutcome = "done" | "already done";

/**
 * Runs the job that `path` describes, or goes on with it, and keeps its state. A second process that wants the same job is refused.
 *
 * @throws PolypacaError `RUN_LOCKED` where another process has the job; `USAGE` where a job that it depends on is not done; `CANCELLED`
 *   when `environment.signal` aborts, with the state "interrupted"; whatever the job throws, with the state "failed"
 */
export async function runJob(path: string, environment: JobEnvironment): Promise<JobOutcome> {
  const folder = new JobFolder(path);
  const record = await folder.record();
  const lock = lockFolder(path, environment.process.now(), jobLock);
  try {
    if (lock.takenOverFrom !== null) {
      const { pid, host, since } = lock.takenOverFrom;
      environment.note(`process ${pid} on ${host}, which had the job from ${since} on, is gone; going on from what it left`);
    }
    const before = folder.state();
    if (before?.status === "done") return "already done";
    assertDependenciesDone(folder, record);
    const state = await JobStateWriter.begin(folder, environment.process, before);
    await runAndRecord(folder, record, state, environment);
    return "done";
  } finally {
    lock.release();
  }
}

function assertDependenciesDone(folder: JobFolder, { dependsOn }: JobRecord): void {
  const open = dependsOn.filter((name) => new JobFolder(join(dirname(folder.path), name)).state()?.status !== "done");
  if (open.length > 0)
    throw new PolypacaError("USAGE", `${folder.path}: depends on jobs that are not done: ${open.join(", ")}. Run these first.`);
}

async function runAndRecord(folder: JobFolder, record: JobRecord, state: JobStateWriter, environment: JobEnvironment): Promise<void> {
  const openProgress: TaskEnvironment["openProgress"] = (task) => state.track(task, environment.openProgress(task));
  try {
    const result = await runTask(folder, record, { ...environment, openProgress });
    await state.end("done", { result });
  } catch (cause) {
    const error = PolypacaError.from(cause, { during: record.kind });
    await state.end(error.code === "CANCELLED" ? "interrupted" : "failed", { error });
    throw error;
  }
}
