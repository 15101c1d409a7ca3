import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compareRuns, compareWithSecondLook, readSavedRun, savedText } from "../../src/bench/compare.js";
import { relativeSpread, spreadOf } from "../../src/bench/statistics.js";
import { comparisonTable } from "../../src/bench/tables.js";
import { caseResult, report } from "./shapes.js";

/** A case at this speed, its steps' quartiles `spread` of the median apart. */
const at = (key: string, tokensPerSecond: number, spread = 0.02) => {
  const stepSeconds = 1024 / tokensPerSecond;
  return caseResult(key, {
    ...{ tokensPerSecond, stepSeconds },
    stepSecondsLow: stepSeconds * (1 - spread / 2),
    stepSecondsHigh: stepSeconds * (1 + spread / 2),
  });
};

const verdicts = (before: ReturnType<typeof at>[], now: ReturnType<typeof at>[]) =>
  compareRuns(report({ cases: before }), report({ cases: now })).cases.map(({ verdict }) => verdict);

describe("comparing runs", () => {
  it("calls a case faster or slower only beyond the noise of both sides", () => {
    expect(verdicts([at("a", 1000)], [at("a", 1030)])).toEqual(["faster"]);
    expect(verdicts([at("a", 1000)], [at("a", 970)])).toEqual(["slower"]);
    expect(verdicts([at("a", 1000)], [at("a", 985)])).toEqual(["within noise"]);
    expect(verdicts([at("a", 1000, 0.08)], [at("a", 950)])).toEqual(["within noise"]);
    expect(verdicts([at("a", 1000)], [at("a", 950, 0.08)])).toEqual(["within noise"]);
    expect(verdicts([at("a", 1000, 0.08)], [at("a", 940, 0.02)])).toEqual(["slower"]);
  });

  it("does not trust a difference below 2% however quiet the steps were", () => {
    expect(verdicts([at("a", 1000, 0)], [at("a", 985, 0)])).toEqual(["within noise"]);
    expect(verdicts([at("a", 1000, 0)], [at("a", 975, 0)])).toEqual(["slower"]);
  });

  const slowMachine = { fp32: 230, bf16: 460 * 0.9 };
  const verdictOn = (now: number, microKernelPeak = slowMachine) =>
    compareRuns(report({ cases: [at("a", 1000)] }), report({ cases: [at("a", now)], microKernelPeak })).cases[0]!.verdict;

  it("does not blame a case for a slower machine, nor praise it for a faster one", () => {
    expect(verdictOn(905)).toBe("within noise");
    expect(verdictOn(870)).toBe("slower");
    expect(verdictOn(1030)).toBe("faster");
    const fastMachine = { fp32: 230, bf16: 460 * 1.1 };
    expect(verdictOn(1090, fastMachine)).toBe("within noise");
    expect(verdictOn(1130, fastMachine)).toBe("faster");
    expect(verdictOn(970, fastMachine)).toBe("slower");
    // The other type's micro-kernel says nothing about a bf16 case.
    expect(verdictOn(905, { fp32: 230 * 0.9, bf16: 460 })).toBe("slower");
  });

  it("measures what looks slower a second time, and nothing else", async () => {
    const before = report({ cases: [at("a", 1000), at("b", 1000), at("c", 1000)] });
    const now = report({ cases: [at("a", 900), at("b", 900), at("c", 1000)] });
    const asked: (readonly string[])[] = [];
    const comparison = await compareWithSecondLook(before, now, async (keys) => {
      asked.push(keys);
      return report({ cases: [at("a", 1000), at("b", 910)] });
    });
    expect(asked).toEqual([["a", "b"]]);
    expect(comparison.cases.map(({ verdict, ratioAgain }) => [verdict, ratioAgain])).toEqual([
      ["within noise", 1],
      ["slower", 0.91],
      ["within noise", null],
    ]);
    expect(comparison.slower).toBe(1);
    expect(comparisonTable(comparison)).toMatch(/ ratio +again +noise/);
    const none = await compareWithSecondLook(before, before, () => Promise.reject(new Error("nothing to measure again")));
    expect(none.slower).toBe(0);
    expect(comparisonTable(none)).toMatch(/ ratio +noise/);
  });

  it("counts what is slower and names what only one run has", () => {
    const before = report({ cases: [at("a", 1000), at("b", 1000), at("gone", 1000)] });
    const comparison = compareRuns(before, report({ cases: [at("a", 900), at("b", 1000), at("new", 1000)] }));
    expect(comparison).toMatchObject({ slower: 1, onlyBefore: ["gone"], onlyNow: ["new"] });
    expect(comparison.cases.map(({ ratio }) => ratio)).toEqual([0.9, 1]);
    const text = comparisonTable(comparison);
    expect(text).toContain("Only in the saved run: gone");
    expect(text).toContain("Not in the saved run: new");
  });

  it("says that the machine is another, and how its GEMM peak compares", () => {
    const before = report({ cases: [at("a", 1000)] });
    const now = report({
      cases: [at("a", 1000)],
      machine: { ...before.machine, cpu: "Another", threads: 4 },
      gemmPeak: { fp32: 100, bf16: 400 },
    });
    const comparison = compareRuns(before, now);
    expect(comparison.differences).toEqual(["cpu: A CPU before, Another now", "threads: 2 before, 4 now"]);
    expect(comparison.gemmPeak).toEqual({ fp32: 0.5, bf16: 1 });
    expect(comparisonTable(comparison)).toContain("Another machine or build: cpu: A CPU before, Another now");
  });

  it("has no ratio of peaks where a device has none of a type", () => {
    const onGpu = report({ device: "cuda", gemmPeak: { fp32: null, bf16: 790e3 }, microKernelPeak: null });
    const comparison = compareRuns(onGpu, { ...onGpu, gemmPeak: { fp32: null, bf16: 395e3 } });
    expect(comparison.gemmPeak).toEqual({ fp32: null, bf16: 0.5 });
    expect(comparisonTable(comparison)).toMatch(/bf16 0\.50x?.*, fp32 none\./);
  });

  it("reads back what is saved, and refuses other files by name", async () => {
    const dir = mkdtempSync(join(tmpdir(), "polypaca-bench-"));
    const path = join(dir, "saved.json");
    const saved = report({ cases: [at("a", 1000)] });
    writeFileSync(path, savedText(saved));
    expect(compareRuns(await readSavedRun(path), saved).cases).toMatchObject([{ ratio: 1, verdict: "within noise" }]);
    writeFileSync(path, '{"cases": []}');
    await expect(readSavedRun(path)).rejects.toMatchObject({ code: "BAD_DATA", message: expect.stringContaining("machine") });
    await expect(readSavedRun(join(dir, "none.json"))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("--save"),
    });
  });
});

describe("spread", () => {
  it("is the middle and the quartiles, between values where there is none", () => {
    expect(spreadOf([4, 1, 3, 2, 5])).toEqual({ median: 3, low: 2, high: 4, count: 5 });
    expect(spreadOf([4, 1, 3, 2])).toEqual({ median: 2.5, low: 1.75, high: 3.25, count: 4 });
    expect(spreadOf([7])).toEqual({ median: 7, low: 7, high: 7, count: 1 });
    expect(relativeSpread(spreadOf([4, 1, 3, 2, 5]))).toBeCloseTo(2 / 3);
  });
});
