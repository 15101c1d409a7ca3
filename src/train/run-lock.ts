/** One process per run folder: two that resumed the same run would overwrite each other's checkpoints. */
import { type FolderLock, lockFolder } from "../checkpoint/folder-lock.js";

export type { LockHolder } from "../checkpoint/folder-lock.js";

export const lockFileName = "run.lock";

/**
 * Locks a run folder for this process, as {@link lockFolder} does.
 *
 * @param now milliseconds since 1970
 * @throws PolypacaError `RUN_LOCKED` naming the process that has it; `IO`, `DISK_FULL`
 */
export function lockRun(folder: string, now: number): FolderLock {
  return lockFolder(folder, now, { fileName: lockFileName, work: "training" });
}
