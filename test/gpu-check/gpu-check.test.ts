import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compareCurves } from "../../src/gpu-check/parts.js";
import type { GpuCheckReport, PartResult } from "../../src/gpu-check/report.js";
import { runChild, whyItEnded } from "../../src/gpu-check/run-child.js";
import { summaryText } from "../../src/gpu-check/summary.js";
import { report as benchReport, caseResult } from "../bench/shapes.js";
import { compile, runCli } from "../cli/run-cli.js";

let dir: string;

beforeAll(() => {
  compile();
  dir = mkdtempSync(join(tmpdir(), "polypaca-gpu-check-"));
});

function check(
  out: string,
  flags: readonly string[],
): { readonly exitCode: number | null; readonly report: GpuCheckReport; readonly summary: string } {
  const { exitCode, stderr } = runCli(["gpu-check", "--out", join(dir, out), ...flags]);
  const read = (name: string): string => readFileSync(join(dir, out, name), "utf8");
  expect(stderr).toContain("doctor: ");
  return { exitCode, report: JSON.parse(read("gpu-check.json")) as GpuCheckReport, summary: read("gpu-check.md") };
}

const statuses = ({ parts }: GpuCheckReport): string[] => parts.map(({ name, status }) => `${name} ${status}`);

describe("polypaca gpu-check", () => {
  it("without the GPU says so, exits with 1 and has written its files all the same", () => {
    const { exitCode, report, summary } = check("none", ["--device", "cuda:99"]);
    expect(exitCode).toBe(1);
    expect(report).toMatchObject({ passed: false, device: "cuda:99", bundle: null });
    expect(statuses(report)).toEqual([
      "doctor failed",
      ...["kernels", "goldens", "training", "sanitizer", "bench"].map((name) => `${name} skipped`),
    ]);
    expect(report.parts[0]!.reasons[0]).toMatch(/^cuda:99: /);
    expect(report.parts[1]!.reasons[0]).toMatch(/^nothing to run on: cuda:99/);
    expect(summary).toMatch(/^# gpu-check\n\nFAILED: doctor; skipped: kernels, goldens, training, sanitizer, bench\./);
  });

  it("names the parts that were not asked for, which are no passes", () => {
    const { exitCode, report } = check("some", ["--device", "cpu", "--parts", "sanitizer"]);
    expect(exitCode).toBe(0);
    expect(statuses(report)).toEqual([
      "doctor passed",
      ...["kernels", "goldens", "training", "sanitizer", "bench"].map((name) => `${name} skipped`),
    ]);
    expect(report.parts.map(({ reasons }) => reasons[0])).toEqual([
      ...[
        undefined,
        "not asked for",
        "not asked for",
        "not asked for",
        "compute-sanitizer watches GPUs, the device is cpu",
        "not asked for",
      ],
    ]);
  });

  it("goes on after a part that failed", () => {
    const { exitCode, report } = check("failing", ["--device", "cpu", "--parts", "sanitizer,bench", "--presets", "gpt-5", "--no-peer"]);
    expect(exitCode).toBe(1);
    expect(statuses(report).slice(-2)).toEqual(["sanitizer skipped", "bench failed"]);
    expect(report.parts.at(-1)!.reasons[0]).toMatch(/^gpt-5: bench ended with 2: USAGE: --preset gpt-5/);
  });

  it("refuses parts and devices that it does not know", () => {
    for (const flags of [
      ["--parts", "doctor,luck"],
      ["--device", "tpu"],
    ]) {
      expect(runCli(["gpu-check", "--out", join(dir, "refused"), ...flags])).toMatchObject({ exitCode: 2, stdout: "" });
    }
  });
});

describe("loss curves", () => {
  const cpu = [8, 8.2, 7, 7.2];

  it("agree within bf16's limits", () => {
    expect(compareCurves([8.001, 8.199, 7.002, 7.201], cpu)).toMatchObject({ reasons: [], fallOnCpu: expect.closeTo(1) });
  });

  it("differ where one loss is more than 1% off, or is no number", () => {
    expect(compareCurves([8, 8.2, 7, 7.3], cpu).reasons).toEqual([expect.stringMatching(/^a loss is 1\.389% off/)]);
    expect(compareCurves([8, 8.2, Number.NaN, 7.2], cpu).reasons[0]).toMatch(/^a loss is Infinity% off/);
  });

  it("differ where the loss falls by another amount, however small both are", () => {
    expect(compareCurves([8, 8.2, 7.995, 8.195], [8, 8.2, 7.99, 8.19]).reasons).toEqual([
      expect.stringMatching(/^the loss falls by 0\.005.*by 0\.01/),
    ]);
  });

  it("differ where the CPU's does not fall, which shows nothing", () => {
    expect(compareCurves([8, 8, 8, 8], [8, 8, 8, 8]).reasons).toHaveLength(1);
  });
});

describe("a child process", () => {
  it("is ended with what it started when its time is up", async () => {
    const marker = join(dir, "alive");
    const child = await runChild("sh", ["-c", `(sleep 3; echo alive > ${marker}) & sleep 60`], { timeoutSeconds: 0.2 });
    expect(child).toMatchObject({ exitCode: null, timedOut: true });
    expect(whyItEnded(child)).toBe("ran out of time");
    await new Promise((resolve) => setTimeout(resolve, 3200));
    expect(() => readFileSync(marker)).toThrow(/ENOENT/);
  });

  it("that cannot be started is an error", async () => {
    await expect(runChild(join(dir, "no-such-program"), [], { timeoutSeconds: 5 })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("tells how it ended and the last it said", async () => {
    const script = join(dir, "failing.mjs");
    writeFileSync(script, 'console.error("first"); console.error("OUT_OF_MEMORY: no"); process.exitCode = 3;');
    expect(whyItEnded(await runChild(process.execPath, [script], { timeoutSeconds: 30 }))).toBe("ended with 3: first | OUT_OF_MEMORY: no");
  });
});

describe("the summary", () => {
  const part = (changes: Partial<PartResult>): PartResult => ({
    name: "doctor",
    status: "passed",
    reasons: [],
    seconds: 1,
    details: {},
    ...changes,
  });
  const whole = (parts: readonly PartResult[], passed = true): string =>
    summaryText({
      ...{ polypaca: "0.1.0", startedAt: "2026-01-01T00:00:00Z", device: "cuda", passed, parts },
      bundle: { polypaca: "0.1.0", commit: "abc", node: "v20", platform: "linux-x64" },
      system: { node: "v20", gpus: ["A GPU, 80 GiB"], nvcc: "release 13.0" },
    });

  it("names commit, GPU and compiler", () => {
    const text = whole([part({})]);
    for (const word of ["No part failed.", "bundle of commit abc", "A GPU, 80 GiB", "release 13.0", "| doctor | passed | 1 |  |"]) {
      expect(text).toContain(word);
    }
  });

  it("lists every failure of a failed part", () => {
    const text = whole(
      [part({ name: "kernels", status: "failed", reasons: ["norm | forward", "attention"], details: { tests: 9, passed: 7 } })],
      false,
    );
    expect(text).toContain("FAILED: kernels.");
    expect(text).toContain("norm \\| forward (and 1 more)");
    expect(text).toContain("- norm | forward\n- attention\n\n7 of 9 tests");
  });

  it("has speed, memory, share of the GEMM peak, LoRA over FFT and the peer's forms of every bench", () => {
    const cases = [caseResult("a", { name: "llama-7b", device: "cuda", peakMemoryBytes: 2 ** 31, utilization: 0.715 })];
    const ratio = { key: "a", arch: "llama", name: "llama-7b", shape: "", dtype: "bf16" as const, device: "cuda" };
    const peer = {
      ...{ problem: null, implementation: "PyTorch", cases: [], skipped: ["Liger: not installed"] },
      ratios: [{ key: "a", numerics: "mixed" as const, form: "torch.compile", isFastest: true, tokensPerSecond: 1.5, peakMemory: 0.4 }],
    };
    const ratios = [{ ...ratio, tokensPerSecond: 1.4, stepSeconds: 0.7, stepSecondsLow: 0.7, stepSecondsHigh: 0.7, peakMemory: 0.5 }];
    const gemmPeak = { fp32: null, bf16: 790_000 };
    const reports = { "llama-7b": benchReport({ device: "cuda", gemmPeak, microKernelPeak: null, cases, ratios, peer }) };
    const text = whole([part({ name: "bench", details: { reports } })]);
    expect(text).toContain("| llama-7b | lora | 1024 | 1000.0 | 400.0 | 500.0 | 100.0 | 2.00 | 790.00 | 71.5% | 0.700 |");
    expect(text).toContain("| llama-7b | lora | mixed torch.compile | 1.50x | 0.40x |");
    expect(text).toContain("- PyTorch: Liger: not installed");
  });
});
