import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { runSession } from "../../src/train/session.js";
import { outcome, ToyTrainee, toySession } from "./toy-session.js";

// Every change that the run folder's code makes to the file system is a moment when a kill could come.
const moments = vi.hoisted(() => ({ onChange: () => {} }));
vi.mock("node:fs/promises", async (importOriginal) => {
  const actual = await importOriginal<typeof import("node:fs/promises")>();
  const watched =
    <A extends unknown[], R>(change: (...args: A) => Promise<R>) =>
    async (...args: A) => {
      moments.onChange();
      const result = await change(...args);
      moments.onChange();
      return result;
    };
  return {
    ...actual,
    rename: watched(actual.rename),
    symlink: watched(actual.symlink),
    rm: watched(actual.rm),
    writeFile: watched(actual.writeFile),
  };
});

let base: string;
beforeEach(() => {
  moments.onChange = () => {};
  base = mkdtempSync(join(tmpdir(), "polypaca-session-"));
});

function contentsOf(folder: string): string {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory());
  const describeEntry = (path: string, isLink: boolean): string => `${path}=${isLink ? readlinkSync(path) : readFileSync(path, "base64")}`;
  return entries
    .map((entry) => describeEntry(join(entry.parentPath, entry.name), entry.isSymbolicLink()))
    .sort()
    .join("\n");
}

describe("runSession", () => {
  it("leaves a complete run folder and says where best and last are", async () => {
    const out = join(base, "run");
    const summary = await runSession(toySession(out, new ToyTrainee()));
    expect(summary).toMatchObject({ run: out, steps: 8, tokens: 24, reason: "completed", tokensPerSecond: 6, peakMemoryBytes: 1 });
    expect(summary.last).toBe(join(out, "checkpoints/step-8"));
    expect(readlinkSync(join(out, "last"))).toBe("checkpoints/step-8");
    expect(summary.best).toBe(join(out, readlinkSync(join(out, "best"))));
    expect(readdirSync(out).sort()).toEqual(["best", "checkpoints", "events.out.tfevents.polypaca", "last", "metrics.jsonl", "run.json"]);
    expect(readdirSync(join(out, "last")).sort()).toEqual(["prompt_template.json", "state.safetensors", "trainer_state.json", "weights"]);
    const trainerState = JSON.parse(readFileSync(join(out, "last/trainer_state.json"), "utf8")) as Record<string, unknown>;
    expect(trainerState).toMatchObject({ global_step: 8, epoch: 1.6, max_steps: 8, best_metric: summary.validationLoss.best });
    expect(trainerState.best_model_checkpoint).toBe(readlinkSync(join(out, "best")));
  });

  it("killed at any moment and resumed, ends byte for byte as a run left alone", async () => {
    const out = join(base, "run");
    const trainee = new ToyTrainee();
    const snapshots: string[] = [];
    const seen = new Set<string>();
    // What SIGKILL leaves is what is in the folder then; a copy of it stands for the kill.
    const takeSnapshot = (): void => {
      const contents = contentsOf(out);
      if (seen.has(contents)) return;
      seen.add(contents);
      const copy = join(base, `killed-${snapshots.length}`);
      cpSync(out, copy, { recursive: true, verbatimSymlinks: true });
      snapshots.push(copy);
    };
    trainee.moment = takeSnapshot;
    moments.onChange = () => existsSync(out) && takeSnapshot();
    await runSession(toySession(out, trainee));
    moments.onChange = () => {};

    expect(snapshots.length).toBeGreaterThan(30);
    const expected = outcome(out);
    for (const killed of snapshots) {
      await runSession(toySession(killed, new ToyTrainee()));
      expect(outcome(killed), killed).toEqual(expected);
      expect(
        readdirSync(join(killed, "checkpoints")).filter((name) => name.startsWith(".")),
        killed,
      ).toEqual([]);
    }
  });

  it("stopped by a signal at any step and resumed, ends with the same weights", async () => {
    const left = join(base, "left");
    await runSession(toySession(left, new ToyTrainee()));
    for (let stopAt = 0; stopAt < 8; stopAt++) {
      const out = join(base, `stopped-${stopAt}`);
      const trainee = new ToyTrainee();
      const stop = new AbortController();
      let steps = 0;
      const step = trainee.step.bind(trainee);
      trainee.step = (...args) => {
        if (steps++ === stopAt) stop.abort();
        return step(...args);
      };
      await expect(runSession(toySession(out, trainee, { signal: stop.signal }))).rejects.toMatchObject({
        code: "CANCELLED",
        message: expect.stringContaining(stopAt === 0 ? "before step 1" : `after step ${stopAt} of 8`),
      });
      await runSession(toySession(out, new ToyTrainee()));
      expect(outcome(out), `stopped at ${stopAt}`).toEqual(outcome(left));
    }
  });

  it("returns the same summary when a finished run is resumed, and trains nothing", async () => {
    const out = join(base, "run");
    const first = await runSession(toySession(out, new ToyTrainee()));
    const idle = new ToyTrainee();
    idle.step = () => Promise.reject(new Error("trained"));
    expect(await runSession(toySession(out, idle))).toEqual(first);
  });

  it("keeps the last good checkpoint and lists the records when a gradient is not finite", async () => {
    const out = join(base, "run");
    const trainee = new ToyTrainee();
    const parts = toySession(out, trainee);
    const batch: typeof parts.batch = (step) => ({ ...parts.batch(step), ...(step === 6 && { targetTokens: 0 }) });
    await expect(runSession({ ...parts, batch })).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringMatching(/^step 7: .*toy\.json lines 1, 2, 3.*last good checkpoint is .*checkpoints\/step-6/),
    });
    expect(readlinkSync(join(out, "last"))).toBe("checkpoints/step-6");
    const report = JSON.parse(readFileSync(join(out, "not-finite.json"), "utf8")) as { step: number; records: object[] };
    expect(report).toMatchObject({ step: 7, records: [{ file: "toy.json", line: 1 }, {}, {}] });
  });

  it("refuses before step 1 a run whose checkpoints do not fit the disk", async () => {
    const out = join(base, "run");
    const parts = { ...toySession(out, new ToyTrainee()), checkpointBytes: { weights: 2 ** 60, state: 0 } };
    await expect(runSession(parts)).rejects.toMatchObject({
      code: "DISK_FULL",
      message: expect.stringMatching(/^--out .*need .* MiB, .* MiB are free/),
    });
    expect(existsSync(out)).toBe(false);
  });

  it("leaves no run behind where the model does not load", async () => {
    const out = join(base, "run");
    const parts = { ...toySession(out, new ToyTrainee()), loadTrainee: () => Promise.reject(new Error("no weights")) };
    await expect(runSession(parts)).rejects.toThrow("no weights");
    expect(existsSync(out)).toBe(false);
  });

  it("names --out where it cannot be written", async () => {
    writeFileSync(join(base, "file"), "");
    await expect(runSession(toySession(join(base, "file/run"), new ToyTrainee()))).rejects.toThrow(/^--out .*cannot be written/);
  });
});
