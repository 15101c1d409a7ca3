import { stat } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import pLimit from "p-limit";
import { PolypacaError } from "../errors.js";
import { type LanguageData, type ReadEnvironment, type ReadJob, readLanguage } from "./language-data.js";
import type { ReadMessage } from "./read-worker.js";

export interface ReadAllEnvironment {
  readonly signal?: AbortSignal | undefined;
  /** Called while tokens are counted, for one file of them. */
  readonly onProgress?: ((language: string, done: number, total: number) => void) | undefined;
  /** Files read at a time; 1: on this thread, more: each on a thread of its own. */
  readonly threads: number;
}

/**
 * Reads the files of all languages, the largest first so that threads end at about the same time.
 *
 * @returns in the order of the jobs
 * @throws PolypacaError as `readLanguage` does; where several files are wrong, for the first of the jobs among those read until then
 */
export async function readLanguages(jobs: readonly ReadJob[], environment: ReadAllEnvironment): Promise<LanguageData[]> {
  const { signal, onProgress } = environment;
  const threads = Math.min(environment.threads, jobs.length);
  const sizes = await Promise.all(jobs.map(({ file }) => sizeOf(file)));
  const largestFirst = [...jobs.keys()].sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const limit = pLimit(threads);
  const results: LanguageData[] = [];
  const failures: { readonly job: number; readonly cause: unknown }[] = [];
  const read = async (job: number): Promise<void> => {
    if (failures.length > 0) return;
    const one = jobs[job]!;
    const progress = onProgress && ((done: number, total: number): void => onProgress(one.language, done, total));
    const reader = threads === 1 ? readLanguage : readOnThread;
    try {
      results[job] = await reader(one, { signal, onProgress: progress });
    } catch (cause) {
      failures.push({ job, cause });
    }
  };
  await Promise.all(largestFirst.map((job) => limit(read, job)));
  const first = failures.sort((a, b) => a.job - b.job)[0];
  if (first) throw first.cause;
  return results;
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (cause) {
    throw PolypacaError.from(cause);
  }
}

/** A thread per file: what it needed in between is given back when it ends. */
async function readOnThread(job: ReadJob, { signal, onProgress }: ReadEnvironment): Promise<LanguageData> {
  const cancelled = (): PolypacaError => new PolypacaError("CANCELLED", "stopped while reading the data; nothing was written.");
  if (signal?.aborted) throw cancelled();
  const worker = new Worker(new URL("./read-worker.js", import.meta.url), { workerData: job });
  let stop = (): void => {};
  try {
    return await new Promise<LanguageData>((resolve, reject) => {
      stop = () => reject(cancelled());
      signal?.addEventListener("abort", stop, { once: true });
      worker.on("message", (message: ReadMessage) => {
        if (message.kind === "progress") onProgress?.(message.done, message.total);
        else if (message.kind === "data") resolve(message.data);
        else reject(new PolypacaError(message.code, message.message));
      });
      worker.once("error", reject);
      worker.once("exit", (code) => reject(new PolypacaError("INTERNAL", `${job.file}: the thread that read it ended with ${code}.`)));
    });
  } finally {
    signal?.removeEventListener("abort", stop);
    await worker.terminate();
  }
}
