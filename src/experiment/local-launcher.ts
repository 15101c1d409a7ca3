/** Runs jobs as child processes of this one: each the single-job entry point, its output in the job's log. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { PolypacaError } from "../errors.js";
import { JobFolder } from "./job-folder.js";
import type { JobExit, LaunchedJob } from "./runner.js";
import type { Slot } from "./slots.js";

export interface Program {
  /** Executable and arguments, before those of the job. */
  readonly command: readonly [string, ...string[]];
  readonly variables: Readonly<Record<string, string | undefined>>;
}

/**
 * Starts `experiment job <folder>`. The process is in a group of its own: a Ctrl-C at the terminal reaches the runner, which stops its jobs
 * one by one. It does not end with the runner: a job whose runner was killed goes on, keeps its lock, and is found done or running by the
 * next one.
 */
export function launchProcess(path: string, slot: Slot, { command, variables }: Program): LaunchedJob {
  const folder = new JobFolder(path);
  const log = openSync(folder.log, "a");
  try {
    const [executable, ...args] = [...command, "experiment", "job", path];
    const env = { ...variables, ...slot.lane.variables };
    const child = spawn(executable!, args, { detached: true, stdio: ["ignore", log, log], env });
    const ended = new Promise<JobExit>((resolve) => {
      child.once("exit", (code, signal) => resolve({ code, signal }));
      child.once("error", (cause) => resolve({ code: null, signal: `an error: ${cause.message}` }));
    });
    return { ended, stop: () => void child.kill("SIGTERM") };
  } catch (cause) {
    throw PolypacaError.from(cause, { during: `starting ${path}` });
  } finally {
    closeSync(log);
  }
}
