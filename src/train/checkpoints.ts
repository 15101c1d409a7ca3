/**
 * The checkpoints of a run folder: `checkpoints/step-<n>/`, complete or absent, and the relative links `best` and `last`.
 * A checkpoint is filled under a temporary name, synced and renamed; one that goes is renamed before it is removed.
 */

import { existsSync } from "node:fs";
import { readdir, rename, rm, stat, symlink } from "node:fs/promises";
import { join } from "node:path";
import { syncFolder, temporaryPrefix, writeFolderAtomic } from "../checkpoint/atomic.js";

export const stateFileName = "state.safetensors";
export const trainerStateFileName = "trainer_state.json";
const checkpointsFolder = "checkpoints";

export class Checkpoints {
  readonly #runFolder: string;
  readonly #folder: string;

  constructor(runFolder: string) {
    this.#runFolder = runFolder;
    this.#folder = join(runFolder, checkpointsFolder);
  }

  /** "checkpoints/step-200", relative to the run folder. */
  static relativePath(step: number): string {
    return `${checkpointsFolder}/step-${step}`;
  }

  path(step: number): string {
    return join(this.#runFolder, Checkpoints.relativePath(step));
  }

  /** Removes what a killed run left half done. */
  async clean(): Promise<void> {
    const steps = (await this.steps()).map((step) => this.path(step));
    for (const folder of [this.#runFolder, this.#folder, ...steps]) {
      for (const name of await namesIn(folder)) {
        if (name.startsWith(temporaryPrefix)) await rm(join(folder, name), { recursive: true, force: true });
      }
    }
  }

  /** Steps that have a checkpoint, ascending. */
  async steps(): Promise<number[]> {
    const names = await namesIn(this.#folder);
    const steps = names.flatMap((name) => /^step-(\d+)$/.exec(name)?.slice(1).map(Number) ?? []);
    return steps.sort((a, b) => a - b);
  }

  /** What the checkpoints there take up. */
  async bytes(): Promise<number> {
    let total = 0;
    for (const step of await this.steps()) {
      for (const name of await readdir(this.path(step))) total += (await stat(join(this.path(step), name))).size;
    }
    return total;
  }

  /** The latest checkpoint that a run can go on from. */
  async latestResumable(): Promise<number | null> {
    const steps = await this.steps();
    return steps.findLast((step) => existsSync(join(this.path(step), stateFileName))) ?? null;
  }

  /** Makes the checkpoint of `step` with the files that `fill` writes into the folder it is given. */
  async write(step: number, fill: (folder: string) => Promise<void>): Promise<void> {
    await writeFolderAtomic(this.path(step), fill);
  }

  /** Points `best` or `last` at a checkpoint. */
  async point(link: "best" | "last", step: number): Promise<void> {
    const temporary = join(this.#runFolder, `${temporaryPrefix}${link}`);
    await rm(temporary, { force: true });
    await symlink(Checkpoints.relativePath(step), temporary);
    await rename(temporary, join(this.#runFolder, link));
    await syncFolder(this.#runFolder);
  }

  /**
   * Keeps `last`, `best` and then the newest others, `limit` in all (two where `last` and `best` differ and `limit` is 1).
   * Optimiser state, which only resuming needs, goes first: only `last` keeps it.
   */
  async prune(keep: { readonly last: number; readonly best: number | null; readonly limit: number }): Promise<void> {
    const steps = await this.steps();
    for (const step of steps) {
      if (step !== keep.last) await rm(join(this.path(step), stateFileName), { force: true });
    }
    for (const step of stepsToRemove(steps, keep)) {
      const temporary = join(this.#folder, `${temporaryPrefix}removed-step-${step}`);
      await rename(this.path(step), temporary);
      await rm(temporary, { recursive: true, force: true });
    }
  }
}

/** Which of `steps` (ascending) pruning removes. */
export function stepsToRemove(
  steps: readonly number[],
  { last, best, limit }: { readonly last: number; readonly best: number | null; readonly limit: number },
): number[] {
  const kept = new Set(best === null ? [last] : [last, best]);
  for (const step of steps.toReversed()) {
    if (kept.size < limit) kept.add(step);
  }
  return steps.filter((step) => !kept.has(step));
}

/**
 * Bytes of the largest set of checkpoints that stands on disk at one time: those kept, the one being written, and two optimiser
 * states (the last one's goes only when the new one is complete).
 */
export function peakCheckpointBytes(run: { readonly weightBytes: number; readonly stateBytes: number; readonly limit: number }): number {
  const kept = Math.max(run.limit, 2); // `best` and `last` are kept even with limit 1
  return (kept + 1) * run.weightBytes + 2 * run.stateBytes;
}

async function namesIn(folder: string): Promise<string[]> {
  return existsSync(folder) ? await readdir(folder) : [];
}
