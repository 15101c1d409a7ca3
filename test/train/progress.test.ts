import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { formatDuration, openProgress } from "../../src/train/progress.js";

function open(isTerminal: boolean) {
  // cli-progress draws only on streams that say they are terminals.
  const stream = Object.assign(new PassThrough(), { isTTY: isTerminal, columns: 120 });
  const clock = { now: 0 };
  const progress = openProgress({ label: "train", start: 10, total: 40 }, { stream, isTerminal, now: () => clock.now });
  return { progress, clock, written: () => String(stream.read() ?? "") };
}

describe("openProgress", () => {
  it("off a terminal writes a plain line every ten seconds, the first update and the last", () => {
    const { progress, clock, written } = open(false);
    for (let step = 11; step <= 40; step++) {
      clock.now += 1000;
      progress.update(step, `loss ${step}`);
    }
    progress.stop();
    expect(written().split("\n").filter(Boolean)).toEqual([
      "train 11/40, loss 11, ETA 29s",
      "train 21/40, loss 21, ETA 19s",
      "train 31/40, loss 31, ETA 9s",
      "train 40/40, loss 40, ETA 0s",
    ]);
  });

  it("off a terminal shows where it stopped", () => {
    const { progress, written } = open(false);
    progress.update(11, "a");
    progress.update(12, "b");
    progress.stop();
    expect(written()).toContain("train 12/40, b");
  });

  it("on a terminal draws a bar with detail and ETA", () => {
    const { progress, clock, written } = open(true);
    clock.now = 5000;
    progress.update(20, "loss 1.5");
    progress.stop();
    const text = written();
    expect(text).toContain("20/40 | loss 1.5 | ETA 10s");
  });

  it("on a terminal puts a note on a line of its own and draws the bar again below it", () => {
    const { progress, written } = open(true);
    progress.update(20, "loss 1.5");
    progress.note("step 20: validation loss 1.4");
    const text = written();
    progress.stop();
    const [before, after] = text.split("step 20: validation loss 1.4\n");
    expect(before).toContain("20/40");
    expect(before?.endsWith("\u001b[0K") || before?.endsWith("\u001b[2K")).toBe(true); // the bar's line was cleared
    expect(after).toContain("20/40 | loss 1.5");
  });

  it("counts the ETA from this session's work, not from where it resumed", () => {
    const { progress, clock, written } = open(false);
    clock.now = 20_000;
    progress.update(20, "x");
    expect(written()).toContain("ETA 40s");
    progress.stop();
  });
});

describe("formatDuration", () => {
  it("keeps two units", () => {
    expect([59_000, 61_000, 3_661_000].map(formatDuration)).toEqual(["59s", "1m01s", "1h01m"]);
  });
});
