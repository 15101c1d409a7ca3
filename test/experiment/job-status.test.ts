import { mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { lockFolder, staleSeconds } from "../../src/checkpoint/folder-lock.js";
import { JobFolder, type JobStatus, jobLock } from "../../src/experiment/job-folder.js";
import { readStanding, standingsOf } from "../../src/experiment/job-status.js";
import { temporaryFolder } from "../data/data-folder.js";

const now = Date.now();

async function jobFolder(status: JobStatus | null): Promise<JobFolder> {
  const folder = new JobFolder(join(await temporaryFolder(), "job"));
  mkdirSync(folder.path);
  if (status !== null) writeFileSync(join(folder.path, "state.json"), JSON.stringify({ status }));
  return folder;
}

/** A lock whose holder was last heard of `age` seconds ago. */
function writeLock(folder: JobFolder, holder: { readonly pid: number; readonly host: string }, age = 0): void {
  const file = join(folder.path, jobLock.fileName);
  writeFileSync(file, JSON.stringify({ ...holder, since: "2026-01-01", processStart: null, heartbeatSeconds: 15 }));
  const time = new Date(now - 1000 * age);
  utimesSync(file, time, time);
}

describe("a job", () => {
  it("that has no state waits, and runs once a process has its lock", async () => {
    const folder = await jobFolder(null);
    expect(readStanding(folder, now).standing).toBe("waiting");
    const lock = lockFolder(folder.path, now, jobLock);
    expect(readStanding(folder, now).standing).toBe("running");
    lock.release();
  });

  it("whose process is gone was interrupted, whatever its state says", async () => {
    const folder = await jobFolder("running");
    writeLock(folder, { pid: 2 ** 30, host: hostname() });
    expect(readStanding(folder, now).standing).toBe("interrupted");
    expect(readStanding(await jobFolder("running"), now).standing).toBe("interrupted");
  });

  it("of another host runs as long as its heart beats", async () => {
    const folder = await jobFolder("running");
    writeLock(folder, { pid: 1, host: "node-17" }, staleSeconds - 1);
    expect(readStanding(folder, now).standing).toBe("running");
    writeLock(folder, { pid: 1, host: "node-17" }, staleSeconds);
    expect(readStanding(folder, now).standing).toBe("interrupted");
  });

  it("that failed and is run again by another runner runs", async () => {
    const folder = await jobFolder("failed");
    expect(readStanding(folder, now).standing).toBe("failed");
    writeLock(folder, { pid: process.pid, host: hostname() });
    expect(readStanding(folder, now).standing).toBe("running");
  });

  it("whose state is no JSON is refused with what to do", async () => {
    const folder = await jobFolder("done");
    writeFileSync(join(folder.path, "state.json"), "{");
    expect(() => readStanding(folder, now)).toThrow(/not the state of a job .*Delete it/);
  });
});

describe("jobs that depend on a failed one", () => {
  it("are blocked, and so are those that depend on them; what is done stays done", () => {
    const jobs = [
      { folder: "a", dependsOn: [] },
      { folder: "b", dependsOn: ["a"] },
      { folder: "c", dependsOn: ["b"] },
      { folder: "d", dependsOn: ["a"] },
      { folder: "e", dependsOn: [] },
    ];
    const own = { a: "failed", b: "waiting", c: "interrupted", d: "done", e: "waiting" } as const;
    const rows = standingsOf(jobs, ({ folder }) => ({ standing: own[folder as keyof typeof own], state: null }));
    expect(rows.map(({ standing }) => standing)).toEqual(["failed", "blocked", "blocked", "done", "waiting"]);
  });
});
