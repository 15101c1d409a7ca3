import { mkdtempSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { heartbeatSeconds, lockFolder } from "../../src/checkpoint/folder-lock.js";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
});
afterEach(() => {
  vi.useRealTimers();
});

const kind = { fileName: "test.lock", work: "testing" };
const longAgo = new Date(1_000_000_000_000);

it("a lock's time is renewed while it is held, and not after", () => {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-heartbeat-"));
  const file = join(folder, kind.fileName);
  const lock = lockFolder(folder, Date.now(), kind);
  utimesSync(file, longAgo, longAgo);
  vi.advanceTimersByTime(1000 * heartbeatSeconds);
  expect(Date.now() - statSync(file).mtimeMs).toBeLessThan(60_000);
  lock.release();
  expect(vi.getTimerCount()).toBe(0);
});

it("a lock that is another's by now is not renewed", () => {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-heartbeat-"));
  const file = join(folder, kind.fileName);
  const lock = lockFolder(folder, Date.now(), kind);
  writeFileSync(file, "{}");
  utimesSync(file, longAgo, longAgo);
  vi.advanceTimersByTime(1000 * heartbeatSeconds);
  expect(statSync(file).mtimeMs).toBe(longAgo.getTime());
  lock.release();
});
