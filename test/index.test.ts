/** The package as a program that depends on it sees it: by its name, compiled. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import * as library from "../src/index.js";
import { compile, testEnvironment } from "./cli/run-cli.js";
import { makeTinyModel } from "./train/tiny-run.js";

const root = join(import.meta.dirname, "..");
let project: string;

beforeAll(async () => {
  compile();
  project = mkdtempSync(join(tmpdir(), "polypaca-library-"));
  mkdirSync(join(project, "node_modules"));
  symlinkSync(root, join(project, "node_modules/polypaca"));
  await makeTinyModel(join(project, "base"));
});

/** The TypeScript block of README.md, which is plain JavaScript too. */
function readmeExample(): string {
  const blocks = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/```ts\n([\s\S]*?)```/g)];
  expect(blocks).toHaveLength(1);
  return blocks[0]![1]!;
}

describe("the library", () => {
  it("runs README's example, which leaves an adapter", () => {
    // What the example takes as given: a packed batch of two sequences, 5 and 3 tokens.
    const given = `
      const batch = { inputIds: Int32Array.of(5, 6, 7, 8, 9, 10, 11, 12), labels: Int32Array.of(-100, 6, 7, 8, 9, -100, 11, 12), sequenceLengths: Int32Array.of(5, 3) };
      const targetTokens = 6;`;
    writeFileSync(join(project, "example.mjs"), `${given}\n${readmeExample()}\nconsole.log(JSON.stringify({ loss, gradNorm }));`);
    const { status, stdout, stderr } = spawnSync(process.execPath, ["example.mjs"], {
      cwd: project,
      encoding: "utf8",
      env: testEnvironment,
    });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const { loss, gradNorm } = JSON.parse(stdout) as { loss: number; gradNorm: number };
    expect(loss).toBeGreaterThan(0);
    expect(gradNorm).toBeGreaterThan(0);
    expect(readdirSync(join(project, "adapter")).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  });

  it("has a function behind every command, and the presets", () => {
    const {
      train,
      generate,
      initModel,
      inspectModel,
      mergeAdapter,
      mix,
      plan,
      fetchRepository,
      diagnose,
      runBench,
      trainPresets,
      decodingPresets,
    } = library;
    for (const command of [train, generate, initModel, inspectModel, mergeAdapter, mix, plan, fetchRepository, diagnose, runBench])
      expect(command).toBeTypeOf("function");
    expect(Object.keys(trainPresets)).toEqual(Object.keys(decodingPresets));
  });

  it("benches a tiny model, silent, with every option left out that has a default", () => {
    const program = `
      import { runBench } from "polypaca";
      const { cases, ratios, peer, sweep, kernels } = await runBench({ archs: ["llama"], hidden: 32, layers: 1, vocab: 96, seq: 8, dtypes: ["fp32"], steps: 1 });
      console.log(JSON.stringify({ cases, ratios, peer, sweep, kernels }));`;
    writeFileSync(join(project, "bench.mjs"), program);
    const { status, stdout, stderr } = spawnSync(process.execPath, ["bench.mjs"], { cwd: project, encoding: "utf8", env: testEnvironment });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({
      cases: [
        { arch: "llama", method: "lora", dtype: "fp32", device: "cpu", steps: 1, tokensPerStep: 32, peakMemoryBytes: expect.any(Number) },
        { arch: "llama", method: "fft", dtype: "fp32", device: "cpu", steps: 1, tokensPerStep: 32, utilization: expect.any(Number) },
      ],
      ratios: [{ arch: "llama", stepSeconds: expect.any(Number) }],
      ...{ peer: null, sweep: null, kernels: null },
    });
  });

  it.each([
    [{ seq: 1 }, "--seq 1: expected a whole number, at least 2"],
    [{ microBatch: 0.5 }, "--micro-batch 0.5"],
    [{ sequenceLength: 1 }, "--sequence-length 1"],
    [{ loraRank: 0 }, "--lora-rank 0"],
    [{ loraDropout: 1 }, "--lora-dropout 1"],
    [{ steps: -1 }, "--steps -1"],
    [{ methods: [] }, "--method: expected at least one"],
    [{ hidden: 0 }, "hidden"],
    [{ steps: 0 }, "without --kernels"],
    [{ peer: true, sequenceLength: 8 }, "--peer"],
  ])("refuses to bench %o before anything is measured", async (settings, message) => {
    await expect(library.runBench(settings)).rejects.toThrow(message);
  });

  it("inspects a model with defaults alone", async () => {
    const report = await library.inspectModel(join(project, "base"));
    expect(report).toMatchObject({ modelType: "bloom", microBatchTokens: 2048 });
    expect(report.dtype).toBe(library.diagnose().backend?.dtype);
  });
});
