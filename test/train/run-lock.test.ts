/** Locks between real processes: a child takes the lock of a run folder, and lives, dies or leaves it. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { staleSeconds } from "../../src/checkpoint/folder-lock.js";
import { type LockHolder, lockFileName, lockRun } from "../../src/train/run-lock.js";
import { compile } from "../cli/run-cli.js";

const compiled = join(import.meta.dirname, "../../dist/train/run-lock.js");
const now = Date.UTC(2025, 0, 2);
let base: string;

beforeAll(() => {
  compile();
  base = mkdtempSync(join(tmpdir(), "polypaca-lock-"));
});

function holderIn(folder: string): LockHolder {
  return JSON.parse(readFileSync(join(folder, lockFileName), "utf8")) as LockHolder;
}

function writeHolder(folder: string, holder: LockHolder): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, lockFileName), JSON.stringify(holder));
}

/** A process that locks `folder`, says so, and then does `next`. */
async function lockingProcess(folder: string, next: string): Promise<ChildProcess> {
  const script = `import { lockRun } from ${JSON.stringify(compiled)};
    const lock = lockRun(${JSON.stringify(folder)}, Date.now());
    console.log("locked");
    ${next}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["pipe", "pipe", "ignore"] });
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once("data", () => resolve());
    child.once("exit", (code) => reject(new Error(`ended with ${code} before it had the lock`)));
  });
  return child;
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once("exit", () => resolve());
  });
}

const stay = "setInterval(() => {}, 1000);";

describe("a run folder that a living process has locked", () => {
  it("is refused with who has it and what to do, and the lock stays", async () => {
    const folder = join(base, "alive");
    const child = await lockingProcess(folder, stay);
    expect(() => lockRun(folder, now)).toThrow(
      expect.objectContaining({
        code: "RUN_LOCKED",
        message: expect.stringMatching(new RegExp(`${folder}: process ${child.pid} on ${hostname()} has been .* since 20.*SIGTERM`)),
      }),
    );
    expect(holderIn(folder).pid).toBe(child.pid);
    expect(readdirSync(folder)).toEqual([lockFileName]);
    child.kill("SIGKILL");
    await ended(child);
  });

  it("is refused to the same process as well", () => {
    const folder = join(base, "own");
    const lock = lockRun(folder, now);
    expect(() => lockRun(folder, now)).toThrow(expect.objectContaining({ code: "RUN_LOCKED" }));
    lock.release();
    lockRun(folder, now).release();
  });

  it("is given to one of many that want it at once", async () => {
    const folder = join(base, "race");
    writeHolder(folder, { pid: 2 ** 30, host: hostname(), since: "2020-01-01T00:00:00.000Z", processStart: "1", heartbeatSeconds: null });
    const wanting = Array.from({ length: 6 }, () => lockingProcess(folder, stay).catch(() => null));
    const children = (await Promise.all(wanting)).filter((child) => child !== null);
    expect(children.map((child) => child.pid)).toEqual([holderIn(folder).pid]);
    for (const child of children) child.kill("SIGKILL");
    await Promise.all(children.map(ended));
  });
});

describe("the lock of a process that is gone", () => {
  it("by SIGKILL is taken over, and the new holder knows from whom", async () => {
    const folder = join(base, "killed");
    const child = await lockingProcess(folder, stay);
    child.kill("SIGKILL");
    await ended(child);
    const lock = lockRun(folder, now);
    expect(lock.takenOverFrom).toMatchObject({ pid: child.pid, host: hostname() });
    expect(holderIn(folder)).toMatchObject({ pid: process.pid, since: "2025-01-02T00:00:00.000Z" });
    lock.release();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("is taken over where another process has its number now", () => {
    const folder = join(base, "reused");
    writeHolder(folder, {
      pid: process.pid,
      host: hostname(),
      since: "2020-01-01T00:00:00.000Z",
      processStart: "1",
      heartbeatSeconds: null,
    });
    const takesOver = existsSync("/proc/self/stat"); // elsewhere a start time is not known, and the number decides
    if (!takesOver) return expect(() => lockRun(folder, now)).toThrow(/RUN_LOCKED|has been training/);
    const lock = lockRun(folder, now);
    expect(lock.takenOverFrom?.since).toBe("2020-01-01T00:00:00.000Z");
    lock.release();
  });

  it("is not there where the process ended by itself, by process.exit or by an error", async () => {
    for (const [name, next] of [
      ["end", "lock.release();"],
      ["exit", "process.exit(3);"],
      ["error", 'throw new Error("meant");'],
    ] as const) {
      const folder = join(base, name);
      const child = await lockingProcess(
        folder,
        name === "error" ? `process.on("uncaughtException", () => process.exit(1)); ${next}` : next,
      );
      await ended(child);
      expect(existsSync(folder)).toBe(false); // it was made for the lock
    }
  });
});

describe("a lock that cannot be judged", () => {
  it("from another host is refused, naming both hosts and the file to delete", () => {
    const folder = join(base, "foreign");
    writeHolder(folder, { pid: 1, host: "node-17", since: "2025-01-01T00:00:00.000Z", processStart: "5", heartbeatSeconds: null });
    const message = new RegExp(`process 1 on node-17 .*since 2025-01-01.*This machine is ${hostname()} .*delete ${folder}/${lockFileName}`);
    expect(() => lockRun(folder, now)).toThrow(expect.objectContaining({ code: "RUN_LOCKED", message: expect.stringMatching(message) }));
    expect(holderIn(folder).host).toBe("node-17");
  });

  it("because it holds no JSON is refused, naming the file to delete", () => {
    const folder = join(base, "garbled");
    mkdirSync(folder);
    writeFileSync(join(folder, lockFileName), "");
    expect(() => lockRun(folder, now)).toThrow(/does not say which process .*delete .*run\.lock/);
  });
});

describe("the lock of a process on another host", () => {
  /** Its last heartbeat was `age` seconds before `now`. */
  function foreignLock(name: string, age: number): string {
    const folder = join(base, name);
    writeHolder(folder, { pid: 7, host: "node-17", since: "2025-01-01T00:00:00.000Z", processStart: "5", heartbeatSeconds: 15 });
    const time = new Date(now - 1000 * age);
    utimesSync(join(folder, lockFileName), time, time);
    return folder;
  }

  it("is refused while its heartbeat is fresh, and says how long to wait", () => {
    const folder = foreignLock("beating", staleSeconds - 1);
    expect(() => lockRun(folder, now)).toThrow(/process 7 on node-17 .*not renewed for 5 minutes/);
    expect(holderIn(folder).host).toBe("node-17");
  });

  it("is taken over when its heartbeat has stopped", () => {
    const folder = foreignLock("silent", staleSeconds);
    const lock = lockRun(folder, now);
    expect(lock.takenOverFrom).toMatchObject({ pid: 7, host: "node-17" });
    expect(holderIn(folder)).toMatchObject({ pid: process.pid, host: hostname(), heartbeatSeconds: 15 });
    lock.release();
  });

  it("is not taken over however old it is where it has no heartbeat", () => {
    const folder = foreignLock("old-form", 1e6);
    writeHolder(folder, { pid: 7, host: "node-17", since: "2025-01-01T00:00:00.000Z", processStart: "5", heartbeatSeconds: null });
    utimesSync(join(folder, lockFileName), new Date(0), new Date(0));
    expect(() => lockRun(folder, now)).toThrow(/delete/);
  });
});

describe("release", () => {
  it("leaves a lock alone that is another's by now, and may be called again", () => {
    const folder = join(base, "lost");
    const lock = lockRun(folder, now);
    writeHolder(folder, { pid: 1, host: "node-17", since: "2025-01-01T00:00:00.000Z", processStart: null, heartbeatSeconds: null });
    lock.release();
    lock.release();
    expect(holderIn(folder).host).toBe("node-17");
  });

  it("removes the folders made for the lock, and only where nothing else is in them", () => {
    lockRun(join(base, "deep/er/run"), now).release();
    expect(existsSync(join(base, "deep"))).toBe(false);
    const lock = lockRun(join(base, "kept/run"), now);
    writeFileSync(join(base, "kept/other"), "");
    lock.release();
    expect(readdirSync(join(base, "kept"))).toEqual(["other"]);
  });
});
