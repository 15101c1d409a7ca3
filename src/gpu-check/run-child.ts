/** A process per check: what crashes, hangs or leaves a GPU in a bad state ends with it, and the next check runs. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import { packageRoot } from "../native/load.js";

export interface ChildSettings {
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutSeconds: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ChildResult {
  /** null where a signal ended it. */
  readonly exitCode: number | null;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws PolypacaError `CANCELLED`, `NOT_FOUND` where the program cannot be started */
export async function runChild(command: string, args: readonly string[], settings: ChildSettings): Promise<ChildResult> {
  const { env, timeoutSeconds, signal } = settings;
  if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped");
  // A group of its own: compute-sanitizer and vitest have children, which would hold the GPU after them.
  const child = spawn(command, args, {
    cwd: packageRoot(),
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let timedOut = false;
  const stop = (): void => killGroup(child);
  const timer = setTimeout(() => {
    timedOut = true;
    stop();
  }, timeoutSeconds * 1000);
  signal?.addEventListener("abort", stop, { once: true });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once("error", (cause) => reject(new PolypacaError("NOT_FOUND", `${command} cannot be started: ${cause.message}`, { cause })));
      child.once("close", resolve);
    });
    if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped");
    return { exitCode, timedOut, stdout, stderr };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // it has ended
  }
}

export const programPath = (): string => join(packageRoot(), "dist/cli/main.js");

/** A command of ours with --json: its result, or why there is none. A command may fail and still give one. */
export async function runCommand(
  args: readonly string[],
  settings: ChildSettings,
): Promise<{ readonly result: Readonly<Record<string, unknown>> | null; readonly problem: string | null }> {
  const child = await runChild(process.execPath, [programPath(), ...args, "--json"], settings);
  const result = lastJson(child.stdout);
  return { result, problem: child.exitCode === 0 && result !== null ? null : whyItEnded(child) };
}

/** One line: how it ended and the last that it said. */
export function whyItEnded({ exitCode, timedOut, stdout, stderr }: ChildResult): string {
  const how = timedOut ? "ran out of time" : exitCode === null ? "was killed by a signal" : `ended with ${exitCode}`;
  const last = (stderr.trim() || stdout.trim()).split("\n").slice(-3).join(" | ");
  return last === "" ? how : `${how}: ${last}`;
}

export function lastJson(text: string): Readonly<Record<string, unknown>> | null {
  try {
    return JSON.parse(text.trim().split("\n").at(-1) ?? "") as Readonly<Record<string, unknown>>;
  } catch {
    return null;
  }
}
