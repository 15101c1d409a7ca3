/** What commands share: where results and messages go, and how a signal stops long work. */
import { homedir } from "node:os";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { ProgressOutput } from "../train/progress.js";

/** Prints a command's result: one JSON object with --json, else text. Nothing else goes to stdout. */
export function printResult(isJson: boolean, result: object, text: () => string): void {
  process.stdout.write(isJson ? `${JSON.stringify(result)}\n` : `${text()}\n`);
}

/** What --device takes. */
export const deviceNames = "auto, cpu, cuda[:n] or cuda-emulated (CUDA's kernels on the CPU: slow, for checks)";

/** A message for the person who watches; stderr, so that stdout stays machine-readable. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function progressOutput(): ProgressOutput {
  return { stream: process.stderr, isTerminal: process.stderr.isTTY === true, now: () => performance.now() };
}

/** A folder of polypaca's under the user's cache folder (XDG_CACHE_HOME, or ~/.cache). */
export function cacheFolder(name: string): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "polypaca", name);
}

const signalNumbers = { SIGINT: 2, SIGTERM: 15 } as const;

/**
 * Runs `work` with a signal that SIGINT or SIGTERM aborts: the first lets it save and stop, the second ends the process.
 * A run stopped that way exits with 128 + the signal's number, as a shell expects.
 */
export async function stoppable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const handlers = (Object.keys(signalNumbers) as (keyof typeof signalNumbers)[]).map((name) => {
    const handler = (): void => {
      const code = 128 + signalNumbers[name];
      if (controller.signal.aborted) process.exit(code);
      if (process.stderr.isTTY) note(""); // below a progress bar
      note(`${name}: saving and stopping; once more to stop at once`);
      process.exitCode = code;
      controller.abort(name);
    };
    process.on(name, handler);
    return (): void => void process.off(name, handler);
  });
  try {
    return await work(controller.signal);
  } finally {
    for (const release of handlers) release();
  }
}

/** A flag's text as a number where it is one; the schema judges the rest. */
export function numberOrText(text: string): number | string {
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

/** @throws PolypacaError `USAGE` naming the flag where the text is no such number */
export function numberFlag(flag: string, accept: { readonly integer?: boolean; readonly min?: number; readonly max?: number } = {}) {
  return (text: string): number => {
    const value = Number(text);
    const { integer = false, min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = accept;
    if (text.trim() !== "" && value >= min && value <= max && (!integer || Number.isSafeInteger(value))) return value;
    const range = [min > -Infinity ? `at least ${min}` : "", max < Infinity ? `at most ${max}` : ""].filter(Boolean).join(", ");
    const kind = integer ? "a whole number" : "a number";
    throw new PolypacaError("USAGE", `${flag} ${text}: expected ${kind}${range ? `, ${range}` : ""}.`);
  };
}

/** @throws PolypacaError `USAGE` naming the flag and its choices */
export function choiceFlag<const T extends string>(flag: string, choices: readonly T[]) {
  return (text: string): T => {
    const choice = choices.find((candidate) => candidate === text);
    if (choice !== undefined) return choice;
    throw new PolypacaError("USAGE", `${flag} ${text}: expected ${choices.join(" or ")}.`);
  };
}

export function commaList(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
}

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const exponent = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** exponent).toFixed(exponent === 0 ? 0 : 1)} ${units[exponent]}`;
}
