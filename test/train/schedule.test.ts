import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { learningRateAt, resolveWarmup, type Schedule, warmupWarning } from "../../src/train/schedule.js";

const goldens = join(import.meta.dirname, "../goldens");

interface TrainGolden {
  readonly setup: { readonly steps: number; readonly warmup: number; readonly schedule: "linear"; readonly lr: number };
  readonly curves: Record<string, { readonly lr: readonly number[] }>;
}

describe("learningRateAt", () => {
  const cases = readdirSync(goldens).filter((name) => /^\d\d-/.test(name));
  it.each(cases)("equals transformers' linear schedule with warm-up in %s", (name) => {
    const { setup, curves } = JSON.parse(readFileSync(join(goldens, name, "train.json"), "utf8")) as TrainGolden;
    const schedule: Schedule = { scheduler: setup.schedule, peak: setup.lr, warmupSteps: setup.warmup, steps: setup.steps };
    expect(Object.keys(curves).length).toBeGreaterThan(0);
    for (const { lr } of Object.values(curves)) {
      expect(lr.length).toBe(setup.steps);
      for (const [step, expected] of lr.entries()) expect(learningRateAt(schedule, step)).toBeCloseTo(expected, 15);
    }
  });

  it("follows the half cosine after the warm-up, as get_cosine_schedule_with_warmup", () => {
    const schedule: Schedule = { scheduler: "cosine", peak: 2, warmupSteps: 2, steps: 10 };
    const expected = [0, 1, 2, ...[1, 2, 3, 4, 5, 6, 7].map((k) => 1 + Math.cos((Math.PI * k) / 8))];
    for (const [step, value] of expected.entries()) expect(learningRateAt(schedule, step)).toBeCloseTo(value, 14);
  });

  it("stays at the peak after the warm-up when constant", () => {
    const schedule: Schedule = { scheduler: "constant", peak: 3e-4, warmupSteps: 4, steps: 6 };
    expect([0, 1, 4, 5].map((step) => learningRateAt(schedule, step))).toEqual([0, 3e-4 / 4, 3e-4, 3e-4]);
  });

  it("starts at the peak without warm-up and would be 0 after the last step", () => {
    const schedule: Schedule = { scheduler: "linear", peak: 1, warmupSteps: 0, steps: 4 };
    expect([0, 1, 2, 3, 4].map((step) => learningRateAt(schedule, step))).toEqual([1, 0.75, 0.5, 0.25, 0]);
  });
});

describe("resolveWarmup", () => {
  it("rounds a share up and leaves a count alone", () => {
    expect(resolveWarmup("3%", 609)).toBe(19);
    expect(resolveWarmup("3%", 100)).toBe(3);
    expect(resolveWarmup("0%", 100)).toBe(0);
    expect(resolveWarmup(100, 40)).toBe(100);
  });
});

describe("warmupWarning", () => {
  it("speaks from 20% of the steps on", () => {
    expect(warmupWarning(19, 100)).toBeNull();
    expect(warmupWarning(0, 0)).toBeNull();
    expect(warmupWarning(20, 100)).toContain("20 of 100 steps (20%)");
    expect(warmupWarning(100, 60)).toContain("never reaches its peak");
  });
});
