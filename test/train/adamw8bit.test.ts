/** Training with moments of 8 bits: learns as with fp32 moments, takes less, and resumes to the same bytes. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/hf-folder.js";
import { readSafetensorsHeader } from "../../src/checkpoint/safetensors.js";
import { elementBytes } from "../../src/checkpoint/stored-tensor.js";
import { elementCount, studyLoraTargets } from "../../src/families/parameters.js";
import type { SomeSettings } from "../../src/train/settings.js";
import { train } from "../../src/train/train.js";
import { checkpointSizes } from "../../src/train/trainee.js";
import { checkpointHashes, loggedLines, makeTinyModel, quietEnvironment, tinySettings } from "./tiny-run.js";

let base: string;
let model: string;

beforeAll(async () => {
  base = mkdtempSync(join(tmpdir(), "polypaca-adamw8bit-"));
  model = await makeTinyModel(join(base, "model"));
});

async function run(name: string, changes: SomeSettings, stopAt = Number.POSITIVE_INFINITY): Promise<string> {
  const out = join(base, name);
  const stop = new AbortController();
  let steps = 0;
  const progress = { note: () => {}, stop: () => {}, update: () => ++steps === stopAt && stop.abort() };
  await train(tinySettings(model, out, changes), quietEnvironment({ signal: stop.signal, openProgress: () => progress }));
  return out;
}

function losses(out: string): number[] {
  return loggedLines(out).flatMap(({ loss }) => loss ?? []);
}

/** A rank with which the adapter of a hidden size of 32 has tensors of 4,096 elements. */
const large = { loraRank: 128, loraAlpha: 128, learningRate: 5e-2 };

describe.each([
  ["fft", "fp32", { learningRate: 2e-3 }],
  ["fft", "bf16", { learningRate: 2e-3 }],
  ["lora", "fp32", large],
] as const)("train --optimizer adamw8bit --method %s --dtype %s", (method, dtype, changes) => {
  const name = `${method}-${dtype}`;
  const settings: SomeSettings = { ...changes, method, dtype, optimizer: "adamw8bit" };

  it("follows the losses of adamw and differs from them", async () => {
    const found = losses(await run(name, settings));
    const expected = losses(await run(`${name}-full`, { ...settings, optimizer: "adamw" }));
    expect(found).toHaveLength(12);
    expect(found).not.toEqual(expected);
    expect(found[0]).toBe(expected[0]); // before the first update
    const fall = expected[0]! - expected[11]!;
    expect(fall).toBeGreaterThan(0.05);
    found.forEach((loss, step) => {
      expect(Math.abs(loss - expected[step]!)).toBeLessThan(0.1 * fall);
    });
  });

  it("stopped and resumed, ends byte for byte as a run left alone", async () => {
    const stopped = run(`${name}-stopped`, settings, 5);
    await expect(stopped).rejects.toMatchObject({ code: "CANCELLED" });
    const out = await run(`${name}-stopped`, { ...settings, resume: true });
    expect(checkpointHashes(join(out, "last"))).toEqual(checkpointHashes(join(base, name, "last")));
    expect(losses(out)).toEqual(losses(join(base, name)));
  });

  it("saves codes with a scale for every 256 of large tensors, and fp32 moments of small ones", async () => {
    const { tensors } = await readSafetensorsHeader(join(base, name, "last/state.safetensors"));
    const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    const moments = tensors.filter(({ name }) => /^exp_avg(_sq)?\./.test(name));
    for (const { name, dtype, shape } of moments) {
      const scale = byName.get(name.replace(".", "_scale."));
      const count = elementCount(shape);
      expect([name, dtype]).toEqual([name, count >= 4096 ? "U8" : "F32"]);
      expect([name, scale?.shape]).toEqual([name, count >= 4096 ? [Math.ceil(count / 256)] : undefined]);
    }
    expect(moments.some(({ dtype }) => dtype === "U8")).toBe(true);
    const { spec } = await openCheckpoint(model);
    const { rank, targets } = { rank: large.loraRank, targets: studyLoraTargets(spec) };
    const lora = method === "fft" ? null : { rank, targets, alpha: rank, scaling: 1, dropout: 0, seed: 0 };
    const bytes = tensors.reduce((sum, { dtype, shape }) => sum + elementBytes[dtype]! * elementCount(shape), 0);
    expect(checkpointSizes(spec, { lora, dtype, optimizer: "adamw8bit" }).state).toBe(bytes); // what the disk is checked for
  });

  it("cannot go on with the state of adamw", async () => {
    await expect(run(`${name}-full`, { ...settings, resume: true })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining('--optimizer: "adamw" there, "adamw8bit" now'),
    });
  });
});

describe("the plan of a run with --optimizer adamw8bit", () => {
  it("has the moments between a quarter and a third of adamw's: scales and small tensors are fp32", async () => {
    const planned = async (optimizer: "adamw" | "adamw8bit"): Promise<number> => {
      const result = await train(tinySettings(model, join(base, "dry"), { method: "fft", optimizer, dryRun: true }), quietEnvironment());
      if (result.kind !== "preview") throw new Error("trained");
      return result.preview.memory.optimizer;
    };
    const ratio = (await planned("adamw8bit")) / (await planned("adamw"));
    expect(ratio).toBeGreaterThan(0.25);
    expect(ratio).toBeLessThan(1 / 3);
  });
});
