import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { BenchReport } from "../../src/bench/report.js";
import { compile, runCli } from "../cli/run-cli.js";

const tiny = ["--hidden", "32", "--layers", "1", "--vocab", "96", "--seq", "8", "--micro-batch", "2", "--steps", "2"];
let dir: string;

beforeAll(() => {
  compile();
  dir = mkdtempSync(join(tmpdir(), "polypaca-bench-cli-"));
});

function bench(args: readonly string[], exitCode = 0, env: Readonly<Record<string, string>> = {}): Record<string, unknown> {
  const result = runCli(["bench", ...args, "--json"], env);
  expect(result, result.stderr).toMatchObject({ exitCode });
  expect(result.stdout.trimEnd()).not.toContain("\n");
  return JSON.parse(result.stdout) as Record<string, unknown>;
}

const positive = expect.any(Number);

describe("polypaca bench", () => {
  it("gives the documented JSON, saves it and draws it", () => {
    const [save, plot] = [join(dir, "run.json"), join(dir, "run.svg")];
    const result = bench([...tiny, "--arch", "bloom,llama", "--dtype", "fp32", "--save", save, "--plot", plot]) as unknown as BenchReport;
    expect(result).toMatchObject({
      machine: { threads: positive, cpu: expect.any(String) },
      gemmPeak: { fp32: positive, bf16: positive },
      peer: null,
    });
    expect(result.cases.map(({ arch, method, dtype, device }) => [arch, method, dtype, device])).toEqual([
      ["bloom", "lora", "fp32", "cpu"],
      ["bloom", "fft", "fp32", "cpu"],
      ["llama", "lora", "fp32", "cpu"],
      ["llama", "fft", "fp32", "cpu"],
    ]);
    for (const each of result.cases) {
      for (const field of [
        "parameters",
        "trainableParameters",
        "tokensPerSecond",
        "stepSeconds",
        "forwardSeconds",
        "backwardSeconds",
      ] as const) {
        expect(each[field], `${each.key}: ${field}`).toBeGreaterThan(0);
      }
      expect(each.optimizerSeconds).toBeGreaterThan(0);
      expect(each.peakMemoryBytes).toBeGreaterThan(2 ** 20);
      expect(each.utilization).toBeGreaterThan(0);
      expect(each.steps).toBe(2);
      expect(each.tokensPerSecond).toBeCloseTo(16 / each.stepSeconds, 3);
      expect(Math.abs(each.loss - Math.log(96))).toBeLessThan(0.5); // a random model knows nothing
    }
    expect(result.ratios.map(({ arch }) => arch)).toEqual(["bloom", "llama"]);
    expect(JSON.parse(readFileSync(save, "utf8"))).toEqual(JSON.parse(JSON.stringify({ ...result, comparison: undefined })));
    expect(readFileSync(plot, "utf8").match(/class="bar"/g)).toHaveLength(8);
  });

  it("prints one table and how it was measured", () => {
    const { exitCode, stdout } = runCli(["bench", ...tiny, "--arch", "gpt_neox", "--dtype", "fp32"]);
    expect(exitCode).toBe(0);
    for (const word of [
      "tokens/s",
      "forward",
      "backward",
      "optimizer",
      "peak MiB",
      "of GEMM peak",
      "LoRA/FFT",
      "GEMM peak:",
      "2 warm-up steps",
      "VmHWM",
    ]) {
      expect(stdout).toContain(word);
    }
    expect(stdout.match(/^gpt_neox +(LoRA|FFT) +fp32 /gm)).toHaveLength(2);
  });

  it("refuses a shape that does not fit with the predicted need, before allocating anything", () => {
    const result = runCli(["bench", "--preset", "bloom-7b1", "--layers", "4000", "--dtype", "fp32"]);
    expect(result.exitCode).toBe(1);
    expect(result.stdout).toBe("");
    expect(result.stderr).toMatch(/^OUT_OF_MEMORY: [\d,]+ MiB are available.*\n.*bloom-7b1.*LoRA.*: [\d,]+ MiB \(weights [\d,]+/);
  });

  it.each([
    [["--arch", "gpt2"], "--arch gpt2"],
    [["--preset", "nope"], "--preset nope"],
    [["--method", "all"], "--method all"],
    [["--dtype", "fp8"], "--dtype fp8"],
    [["--seq", "1"], "--seq 1"],
    [["--lora-dropout", "1"], "--lora-dropout 1"],
    [["--sequence-length", "1"], "--sequence-length 1"],
    [["--sequence-length", "512"], "--sequence-length 512: does not fit into a row of 256"],
    [["--sequence-length", "64", "--peer"], "--peer: has no mask that keeps the sequences of a packed row apart"],
    [["--sweep", "width"], "--sweep width"],
    [["--sweep", "seq", "--arch", "bloom,llama"], "one model at a time"],
    [["--steps", "0"], "--kernels"],
    [["--plot", "run.png"], ".svg"],
    [["--save", "/nowhere/at/all/run.json"], "/nowhere/at/all"],
    [["--compare", "/nowhere/run.json"], "/nowhere/run.json"],
    [["--hidden", "100", "--heads", "3"], "hidden size 100"],
    [["--device", "tpu"], "--device tpu"],
    [["--device", "cuda:99"], "--device cuda:99"],
    [["--device", "cuda", "--kernels"], "--kernels"],
  ])("%s is refused as wrong usage", (flags, message) => {
    const { exitCode, stdout, stderr } = runCli(["bench", ...flags]);
    expect(stderr).toContain(message);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
  });
});
