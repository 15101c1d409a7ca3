/** Files and folders that are complete or absent: written under a temporary name, synced, renamed. */
import { existsSync } from "node:fs";
import { mkdir, open, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { PolypacaError } from "../errors.js";

/** What a killed process may leave behind starts with this. */
export const temporaryPrefix = ".tmp-";

/** What is written; an iterable is written piece by piece, so that a large file need not be held whole. */
export type FileContent = string | Uint8Array | Iterable<string>;

let filesWritten = 0;

/**
 * Writes a file so that readers see the old content or the new, never a part, also after a crash.
 *
 * @throws PolypacaError `DISK_FULL`, `IO`, `NOT_FOUND` (no such folder), naming the path
 */
export async function writeFileAtomic(path: string, data: FileContent): Promise<void> {
  const temporary = join(dirname(path), `${temporaryPrefix}${basename(path)}-${process.pid}-${filesWritten++}`);
  try {
    await writeFileSynced(temporary, data);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true });
    throw writingError(path, cause);
  }
}

/**
 * Makes the folder `dir`, with its parents, out of what `fill` writes into the temporary folder it is given.
 * An empty folder of that name is replaced; where `fill` throws, nothing is left.
 *
 * @throws PolypacaError `USAGE` where `dir` holds something already; `DISK_FULL`, `IO`; whatever `fill` throws
 */
export async function writeFolderAtomic(dir: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const path = resolve(dir);
  const temporary = join(dirname(path), `${temporaryPrefix}${basename(path)}`);
  try {
    await refuseFilled(path);
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await fill(temporary);
    await syncTree(temporary);
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {}); // the first error says what is wrong
    throw writingError(path, cause);
  }
}

async function refuseFilled(path: string): Promise<void> {
  if (!existsSync(path)) return;
  const names = await readdir(path);
  if (names.length > 0)
    throw new PolypacaError("USAGE", `${path} is not empty (it holds ${names[0]}). Choose another folder, or remove it first.`);
}

/** Writes and syncs a file inside a folder that is not yet in place. */
export async function writeFileSynced(path: string, data: FileContent): Promise<void> {
  const file = await open(path, "w");
  try {
    await writeFile(file, data);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes renames and new names in a folder last. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Makes everything in a folder last. */
export async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncTree(join(path, entry.name));
    else await syncFolder(join(path, entry.name));
  }
  await syncFolder(path);
}

/** An error of writing `path` that names it; a PolypacaError says enough already. */
export function writingError(path: string, cause: unknown): PolypacaError {
  if (cause instanceof PolypacaError) return cause;
  const { code, message } = PolypacaError.from(cause);
  const advice = code === "DISK_FULL" ? ". Free some space and run the command again: what was finished is kept." : "";
  return new PolypacaError(code, `${path} cannot be written: ${message}${advice}`, { cause });
}
