/** Whole runs of the bench, one after another for minutes: comparing, sweeping, kernels, the peer. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { BenchReport } from "../../src/bench/report.js";
import { compile, runCli } from "../cli/run-cli.js";

const tiny = ["--hidden", "32", "--layers", "1", "--vocab", "96", "--seq", "8", "--micro-batch", "2", "--steps", "2"];
let dir: string;

beforeAll(() => {
  compile();
  dir = mkdtempSync(join(tmpdir(), "polypaca-bench-runs-"));
  bench([...tiny, "--arch", "bloom,llama", "--dtype", "fp32", "--save", join(dir, "run.json")]);
});

function bench(args: readonly string[], exitCode = 0, env: Readonly<Record<string, string>> = {}): Record<string, unknown> {
  const result = runCli(["bench", ...args, "--json"], env);
  expect(result, result.stderr).toMatchObject({ exitCode });
  return JSON.parse(result.stdout) as Record<string, unknown>;
}

describe("polypaca bench", () => {
  it("--compare exits with 1 where a case is slower than the saved one, with 0 where none is, and names what is missing", () => {
    const run = JSON.parse(readFileSync(join(dir, "run.json"), "utf8")) as BenchReport;
    /** The saved run as if it had been measured at `factor` of its speed, without noise. */
    const saved = (name: string, factor: number): string => {
      const cases = run.cases.map((each) => {
        const stepSeconds = each.stepSeconds / factor;
        const quartiles = { stepSecondsLow: stepSeconds, stepSecondsHigh: stepSeconds };
        return { ...each, tokensPerSecond: each.tokensPerSecond * factor, stepSeconds, ...quartiles };
      });
      writeFileSync(join(dir, name), JSON.stringify({ ...run, cases }));
      return join(dir, name);
    };
    const args = [...tiny, "--arch", "bloom", "--dtype", "fp32", "--method", "lora", "--compare"];
    const faster = bench([...args, saved("slow.json", 1e-9)]);
    expect(faster).toMatchObject({ comparison: { slower: 0, cases: [{ verdict: "faster" }], differences: [], onlyNow: [] } });
    const { onlyBefore } = faster.comparison as { readonly onlyBefore: readonly string[] };
    expect(onlyBefore).toHaveLength(3);
    // The quartiles of two steps are never as far apart as half their median, so no noise hides this.
    expect(bench([...args, saved("fast.json", 1e9)], 1)).toMatchObject({ comparison: { slower: 1, cases: [{ verdict: "slower" }] } });
  });

  it("--sweep tabulates the growth of the cost per token", () => {
    const result = bench([...tiny, "--arch", "bloom", "--dtype", "fp32", "--sweep", "layers=1,2"]) as unknown as BenchReport;
    expect(result.sweep!.points.map(({ value, method }) => [value, method])).toEqual([
      [1, "lora"],
      [1, "fft"],
      [2, "lora"],
      [2, "fft"],
    ]);
    expect(result.sweep!.points[0]!.growth).toBe(1);
  });

  it("--sweep seq with --sequence-length packs longer rows: the same steps and work as rows of one such sequence", () => {
    const flags = [...tiny, "--arch", "bloom", "--dtype", "fp32", "--method", "lora"];
    const { cases, sweep } = bench([...flags, "--sequence-length", "4", "--sweep", "seq=4,16"]) as unknown as BenchReport;
    expect(sweep).toMatchObject({ parameter: "seq", sequenceLength: 4, points: [{ value: 4 }, { value: 16 }] });
    const [rows, packed] = cases;
    expect(rows!.shape).toMatch(/, 4 x 4 tokens$/);
    expect(packed!.shape).toMatch(/, 1 x 16 tokens in sequences of 4$/);
    const { loss, flopsPerToken, tokensPerStep } = rows!;
    expect(packed).toMatchObject({ loss, flopsPerToken, tokensPerStep });
  });

  it("--kernels gives a share of the peak or the bandwidth for every kernel; --steps 0 leaves the steps out", () => {
    const flags = ["--hidden", "32", "--layers", "1", "--vocab", "96", "--seq", "8", "--micro-batch", "2", "--steps", "0"];
    const result = bench([...flags, "--arch", "llama", "--dtype", "bf16", "--kernels"]) as unknown as BenchReport;
    expect(result.cases).toEqual([]);
    expect(result.kernels!.bandwidth).toBeGreaterThan(0);
    const names = new Set(result.kernels!.kernels.map(({ kernel }) => kernel.split(",")[0]));
    for (const kernel of [
      "linear_forward",
      "linear_backward_weight",
      "attention_backward",
      "cross_entropy",
      "lora_down_backward",
      "adamw",
      "norm_backward",
    ]) {
      expect(names).toContain(kernel);
    }
    for (const { kernel, seconds, fraction } of result.kernels!.kernels) {
      expect(seconds, kernel).toBeGreaterThan(0);
      expect(fraction, kernel).toBeGreaterThan(0);
    }
  });

  it("--peer without a Python says what is missing and measures ours all the same", () => {
    const result = bench([...tiny, "--arch", "bloom", "--peer"], 0, { POLYPACA_PYTHON: "/nowhere/python3" }) as unknown as BenchReport;
    expect(result.peer).toMatchObject({ problem: expect.stringMatching(/\/nowhere\/python3.*apt-get install python3-torch/), cases: [] });
    expect(result.cases).toHaveLength(2);
  });

  it("--peer runs each variant before, amid and after our rounds and gives ratios against each, its fastest marked", () => {
    const python = join(dir, "python3");
    const log = join(dir, "peer.log");
    // A stand-in for Python: pure runs twice as fast as mixed, in as much memory.
    const reply = (seconds: string) => `echo '{"implementation": "stand-in", "seconds": [${seconds}], "peakMemoryBytes": 1000000000}'`;
    const script = `#!/bin/sh\necho "$@" >> ${log}\ncase "$*" in *pure*) ${reply("0.5, 0.5, 0.5")};; *) ${reply("1, 1, 1")};; esac\n`;
    writeFileSync(python, script, { mode: 0o755 });
    const result = bench([...tiny, "--arch", "bloom", "--method", "lora", "--dtype", "bf16", "--peer"], 0, { POLYPACA_PYTHON: python });
    const { peer, cases } = result as unknown as BenchReport;
    expect(peer).toMatchObject({ problem: null, implementation: "stand-in", skipped: [] });
    expect(peer!.cases.map(({ numerics, tokensPerSecond, steps }) => [numerics, tokensPerSecond, steps])).toEqual([
      ["mixed", 16, 9],
      ["pure", 32, 9],
    ]);
    expect(peer!.ratios.map(({ isFastest }) => isFastest)).toEqual([false, true]);
    expect(peer!.ratios[1]!.tokensPerSecond).toBeCloseTo(cases[0]!.tokensPerSecond / 32, 6);
    expect(peer!.ratios[0]!.peakMemory).toBeCloseTo(cases[0]!.peakMemoryBytes / 1e9, 9);
    const calls = readFileSync(log, "utf8").trim().split("\n").slice(1); // the first asks what there is
    expect(calls).toHaveLength(6);
    expect(calls[0]).toMatch(
      /--arch bloom --method lora --numerics mixed --hidden 32 --layers 1 .*--vocab 96 --seq 8 --micro-batch 2 .*--lora-rank 8 --lora-dropout 0.05 --device cpu --threads \d+$/,
    );
  });

  it("--peer takes every form that a peer timed as a case of its own, and names those that failed", () => {
    const python = join(dir, "python3-forms");
    const forms = ["eager", "torch.compile"].map((name, i) => ({ name, seconds: [1 / (i + 1)], peakMemoryBytes: 1e9 * (i + 1) }));
    const reply = { implementation: "stand-in", seconds: [0.5], peakMemoryBytes: 1e9, forms, failedForms: ["Liger: not today"] };
    writeFileSync(python, `#!/bin/sh\necho '${JSON.stringify(reply)}'\n`, { mode: 0o755 });
    const flags = [...tiny, "--arch", "bloom", "--method", "lora", "--dtype", "fp32", "--peer"];
    const { peer } = bench(flags, 0, { POLYPACA_PYTHON: python }) as unknown as BenchReport;
    expect(peer!.cases.map(({ form, tokensPerSecond, peakMemoryBytes }) => [form, tokensPerSecond, peakMemoryBytes])).toEqual([
      ["eager", 16, 1e9],
      ["torch.compile", 32, 2e9],
    ]);
    expect(peer!.ratios.map(({ form, isFastest }) => [form, isFastest])).toEqual([
      ["eager", false],
      ["torch.compile", true],
    ]);
    expect(peer!.skipped).toContainEqual(expect.stringMatching(/lora fp32: Liger: not today$/));
  });
});
