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
    const { train, generate, initModel, inspectModel, mergeAdapter, diagnose, trainPresets, decodingPresets } = library;
    for (const command of [train, generate, initModel, inspectModel, mergeAdapter, diagnose]) expect(command).toBeTypeOf("function");
    expect(Object.keys(trainPresets)).toEqual(Object.keys(decodingPresets));
  });

  it("inspects a model with defaults alone", async () => {
    const report = await library.inspectModel(join(project, "base"));
    expect(report).toMatchObject({ modelType: "bloom", microBatchTokens: 2048 });
    expect(report.dtype).toBe(library.diagnose().backend?.dtype);
  });
});
