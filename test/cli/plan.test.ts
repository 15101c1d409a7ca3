import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile, runCli } from "./run-cli.js";

beforeAll(compile);

const saved = join(import.meta.dirname, "../../bench/results/pythia-160m-peer.json");
const data = ["--tokens-per-record", "200", "--response-tokens-per-record", "90"];

describe("polypaca plan", () => {
  it("prints budgets, runs, what does not fit and the sum, with a saved bench result", () => {
    const { exitCode, stdout, stderr } = runCli([
      "plan",
      "--model",
      "pythia-160m",
      "bloom-7b1",
      ...data,
      "--bench",
      saved,
      "--price-per-hour",
      "2",
    ]);
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toMatch(/^cpu, bf16, .* GiB; rates measured on AMD EPYC, 2 threads/);
    expect(stdout).toMatch(/multilingual +N x C +1 +468,000 +0 +93,600,000 +0 .* 467,000 +\+1\.7%/);
    expect(stdout).toMatch(/pythia-160m +lora +monolingual +9 +1,995 .* yes .* measured/);
    expect(stdout).toMatch(/bloom-7b1 +lora .* from gpt_neox 162M's utilisation \(\d\d%\)/);
    expect(stdout).toMatch(/english +1 .* same run as pythia-160m lora monolingual en/);
    expect(stdout).toMatch(/44 runs \(4 more are the same runs\): .* hours on one device, one after the other, cost \d/);
    expect(stdout).toMatch(/Do not fit one device:\n {2}bloom-7b1 fft monolingual \(9 runs\): needs \d+\.\d GiB, one device has 23\.5 GiB/);
    expect(stdout).toMatch(/Note: bloom-7b1, fft: 44 times the size that its rate was measured on/);
  });

  it("gives every job as JSON, with numbers by language and method", () => {
    const flags = [
      "--langs",
      "en,fi",
      "--tokens-per-record",
      "en=100,fi=200",
      "--method",
      "lora",
      "--condition",
      "monolingual,downsampled",
    ];
    const hardware = ["--tflops", "100", "--utilization", "lora=0.5", "--device", "cuda", "--device-memory", "80", "--epochs", "1"];
    const { exitCode, stdout, stderr } = runCli(["plan", "--model", "bloom-560m", ...flags, ...hardware, "--json"]);
    expect(exitCode, stderr).toBe(0);
    const result = JSON.parse(stdout) as {
      jobs: { name: string; tokens: number; steps: number; hours: number; flops: number; evaluationFlops: number }[];
    };
    expect(result).toMatchObject({
      hardware: { device: "cuda", dtype: "bf16", memoryBytes: 80 * 2 ** 30 },
      total: { runs: 3, cost: null },
    });
    expect(result.jobs.map(({ name }) => name)).toEqual([
      "bloom-560m lora monolingual en",
      "bloom-560m lora monolingual fi",
      "bloom-560m lora downsampled",
    ]);
    expect(result.jobs.map(({ tokens }) => Math.round(tokens))).toEqual([5_100_000, 10_200_000, 7_650_000]);
    for (const { hours, flops, evaluationFlops } of result.jobs) expect(hours).toBeCloseTo((flops + evaluationFlops) / 5e13 / 3600, 12);
  });

  it.each([
    ["no length of records", ["--model", "bloom-560m"], /^USAGE: how long are the records/],
    ["a method that is none", ["--model", "bloom-560m", "--method", "qlora"], /^USAGE: --method qlora: expected lora or fft/],
    [
      "a number by key that is none",
      ["--model", "bloom-560m", "--tokens-per-record", "en=x"],
      /^USAGE: --tokens-per-record x: expected a number/,
    ],
    ["a mistyped flag", ["--modell", "bloom-560m"], /^USAGE: unknown option '--modell' \(Did you mean --model\?\)/],
  ])("exits with 2 for %s", (_, flags, message) => {
    expect(runCli(["plan", ...flags])).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringMatching(message) });
  });
});
