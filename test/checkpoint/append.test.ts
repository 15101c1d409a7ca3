import { closeSync, existsSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { appendFully } from "../../src/checkpoint/append.js";

describe("appendFully", () => {
  it("appends text and bytes behind what is there, whole", () => {
    const path = join(mkdtempSync(join(tmpdir(), "polypaca-append-")), "log");
    const descriptor = openSync(path, "a");
    const long = "ü".repeat(300_000);
    appendFully(descriptor, `${long}\n`, path);
    appendFully(descriptor, Uint8Array.of(65, 10), path);
    closeSync(descriptor);
    expect(readFileSync(path, "utf8")).toBe(`${long}\nA\n`);
  });

  // A device that is always full, where the system has one (Linux).
  it.skipIf(!existsSync("/dev/full"))("names the file and says what to do when the disk is full", () => {
    const descriptor = openSync("/dev/full", "a");
    try {
      expect(() => appendFully(descriptor, "line\n", "runs/a/metrics.jsonl")).toThrow(
        expect.objectContaining({
          code: "DISK_FULL",
          message: expect.stringMatching(/^runs\/a\/metrics\.jsonl cannot be written: .*ENOSPC.*Free some space/),
        }),
      );
    } finally {
      closeSync(descriptor);
    }
  });
});
