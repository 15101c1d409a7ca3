/** One process per folder: two that went on with the same work would overwrite each other's files. */
import { linkSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { PolypacaError } from "../errors.js";
import { temporaryPrefix, writingError } from "./atomic.js";

export interface LockKind {
  /** Of the lock, in the folder. */
  readonly fileName: string;
  /** What its holder is doing, for messages: "training". */
  readonly work: string;
}

/** The lock's content: the process that works in this folder. */
export interface LockHolder {
  readonly pid: number;
  readonly host: string;
  /** When the lock was taken, ISO 8601. */
  readonly since: string;
  /** When the process started, in clock ticks since boot, so that a reused pid is not taken for it; null where /proc does not say. */
  readonly processStart: string | null;
  /** The lock file's time is renewed this often while its holder lives; null: never (locks of earlier versions). */
  readonly heartbeatSeconds: number | null;
}

/** How often a holder renews its lock's time. */
export const heartbeatSeconds = 15;
/**
 * A lock of another machine that was not renewed for this long is of a process that is gone: twenty heartbeats, which leaves room for a
 * busy file server and for clocks that differ by minutes (more than Slurm's own authentication allows).
 */
export const staleSeconds = 300;

export interface FolderLock {
  /** Whose lock was taken over because that process is gone; null: there was none. */
  readonly takenOverFrom: LockHolder | null;
  /** Idempotent. Removes folders that were made for the lock and have nothing else in them. */
  release(): void;
}

/**
 * Locks a folder, which is made where it does not exist, for this process until `release` or the process's end. The lock of a
 * process that is gone is taken over: on this machine where no such process runs, on another one where its heartbeat stopped.
 *
 * @param now milliseconds since 1970
 * @throws PolypacaError `RUN_LOCKED` naming the process that has it; `IO`, `DISK_FULL`
 */
export function lockFolder(folder: string, now: number, kind: LockKind): FolderLock {
  const path = join(folder, kind.fileName);
  const since = new Date(now).toISOString();
  const holder: LockHolder = { pid: process.pid, host: hostname(), since, processStart: statOf(process.pid).start, heartbeatSeconds };
  const content = `${JSON.stringify(holder)}\n`;
  const made = makeFolder(folder);
  let heartbeat: NodeJS.Timeout | undefined;
  const release = (): void => {
    process.off("exit", release);
    clearInterval(heartbeat);
    if (readIfThere(path) === content) rmSync(path, { force: true });
    removeEmpty(folder, made);
  };
  try {
    const takenOverFrom = acquire(path, content, kind, now);
    heartbeat = setInterval(() => renew(path, content), 1000 * heartbeatSeconds).unref();
    process.on("exit", release); // a second Ctrl-C ends the process at once
    return { takenOverFrom, release };
  } catch (cause) {
    removeEmpty(folder, made);
    throw writingError(path, cause);
  }
}

/** A few turns, because others may take and give back the lock meanwhile. */
function acquire(path: string, content: string, kind: LockKind, now: number): LockHolder | null {
  let takenOverFrom: LockHolder | null = null;
  for (let turn = 0; turn < 3; turn++) {
    if (create(path, content)) return takenOverFrom;
    const found = readIfThere(path);
    if (found === null) continue;
    const holder = parseHolder(found);
    if (holder === null || isAlive(holder, path, now)) throw lockedError(path, holder, kind);
    if (removeStale(path, found)) takenOverFrom = holder;
  }
  throw lockedError(path, parseHolder(readIfThere(path) ?? ""), kind);
}

/** Who works in a folder, if anyone does who is alive; what cannot be read is taken for alive. */
export function livingHolder(folder: string, fileName: string, now: number): LockHolder | "unknown" | null {
  const path = join(folder, fileName);
  const found = readIfThere(path);
  if (found === null) return null;
  const holder = parseHolder(found);
  if (holder === null) return "unknown";
  return isAlive(holder, path, now) ? holder : null;
}

function isAlive(holder: LockHolder, path: string, now: number): boolean {
  if (holder.host === hostname()) return isRunning(holder);
  if (holder.heartbeatSeconds === null) return true;
  try {
    return now - statSync(path).mtimeMs < 1000 * staleSeconds;
  } catch (cause) {
    if (hasCode(cause, "ENOENT")) return false;
    throw cause;
  }
}

/** Not where the lock is another's by now: this process stood still for so long that it was taken for dead. */
function renew(path: string, content: string): void {
  try {
    if (readIfThere(path) !== content) return;
    const time = new Date();
    utimesSync(path, time, time);
  } catch {
    // A file server that does not answer: the next heartbeat will tell.
  }
}

/** Makes the lock with all of its content, or says that there is one: a link is made only where the name is free. */
function create(path: string, content: string): boolean {
  const temporary = besides(path);
  writeFileSync(temporary, content, { flag: "wx" });
  try {
    linkSync(temporary, path);
    return true;
  } catch (cause) {
    if (hasCode(cause, "EEXIST")) return false;
    throw cause;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Another process may have taken it over since it was read: what was moved away is looked at, and put back where it is another's. */
function removeStale(path: string, expected: string): boolean {
  const moved = besides(path);
  try {
    renameSync(path, moved);
  } catch (cause) {
    if (hasCode(cause, "ENOENT")) return false;
    throw cause;
  }
  const isStale = readFileSync(moved, "utf8") === expected;
  try {
    if (!isStale) linkSync(moved, path);
  } catch (cause) {
    if (!hasCode(cause, "EEXIST")) throw cause; // a third one has it: refused at the next turn
  } finally {
    rmSync(moved, { force: true });
  }
  return isStale;
}

let filesMade = 0;

function besides(path: string): string {
  return join(dirname(path), `${temporaryPrefix}${basename(path)}-${process.pid}-${filesMade++}`);
}

/** Whether a process of that number runs that started when the holder did. */
function isRunning({ pid, processStart }: LockHolder): boolean {
  try {
    process.kill(pid, 0);
  } catch (cause) {
    if (hasCode(cause, "ESRCH")) return false;
    // EPERM: it is there and belongs to another user
  }
  const { state, start } = statOf(pid);
  if (state === "Z" || state === "X") return false; // ended, and its parent has not asked how
  return start === null || processStart === null || start === processStart;
}

/** From /proc/<pid>/stat: field 3, and field 22 in clock ticks since boot. Field 2, the name, may hold spaces and parentheses. */
function statOf(pid: number): { readonly state: string | null; readonly start: string | null } {
  const stat = readIfThere(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? [];
  return { state: fields[0] ?? null, start: fields[19] ?? null };
}

function lockedError(path: string, holder: LockHolder | null, { fileName, work }: LockKind): PolypacaError {
  const folder = dirname(path);
  const remove = `delete ${path}`;
  if (holder === null) {
    const message = `--out ${folder}: ${fileName} is there but does not say which process is ${work} in the folder. If none is, ${remove}.`;
    return new PolypacaError("RUN_LOCKED", message);
  }
  const { pid, host, since } = holder;
  const who = `--out ${folder}: process ${pid} on ${host} has been ${work} there since ${since}`;
  const advice =
    host === hostname()
      ? "Wait for it to end, or stop it with SIGTERM (it saves first)."
      : `This machine is ${hostname()} and cannot see whether it still runs. If it does not, ${foreignAdvice(holder, remove)}.`;
  return new PolypacaError("RUN_LOCKED", `${who}. ${advice}`);
}

function foreignAdvice({ heartbeatSeconds: beats }: LockHolder, remove: string): string {
  return beats === null ? remove : `wait: the lock is taken over when it was not renewed for ${staleSeconds / 60} minutes. Or ${remove}`;
}

function parseHolder(content: string): LockHolder | null {
  try {
    const holder = JSON.parse(content) as Partial<LockHolder> | null;
    if (!Number.isSafeInteger(holder?.pid) || holder!.pid! < 1 || typeof holder!.host !== "string") return null;
    const { pid, host, since, processStart = null, heartbeatSeconds: beats = null } = holder as LockHolder;
    return { pid, host, since: String(since), processStart, heartbeatSeconds: beats };
  } catch {
    return null;
  }
}

/** @returns the topmost folder that was made; undefined: none */
function makeFolder(folder: string): string | undefined {
  try {
    return mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw writingError(folder, cause);
  }
}

/** Removes `folder` and those above it, up to `topmost`, as far as they are empty. */
function removeEmpty(folder: string, topmost: string | undefined): void {
  if (topmost === undefined) return;
  const last = resolve(topmost);
  for (let path = resolve(folder); path.startsWith(last); path = dirname(path)) {
    try {
      rmdirSync(path);
    } catch {
      return; // something is in it
    }
  }
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (hasCode(cause, "ENOENT") || hasCode(cause, "ESRCH")) return null;
    throw cause;
  }
}

function hasCode(cause: unknown, code: string): boolean {
  return cause instanceof Error && "code" in cause && cause.code === code;
}
