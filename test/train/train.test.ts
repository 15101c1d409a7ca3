import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { type GenerateSettings, generate } from "../../src/generate/generate.js";
import type { ResponseRow } from "../../src/generate/responses.js";
import { inspectModel } from "../../src/inspect/inspect-model.js";
import { mergeAdapter } from "../../src/models/merge.js";
import { Model } from "../../src/native/model.js";
import type { RunRecord } from "../../src/train/run-folder.js";
import type { SomeSettings } from "../../src/train/settings.js";
import { train } from "../../src/train/train.js";
import { checkpointHashes, loggedLines, makeTinyModel, quietEnvironment, sampleFolder, tinySettings } from "./tiny-run.js";

let base: string;
let model: string;

beforeAll(async () => {
  base = mkdtempSync(join(tmpdir(), "polypaca-train-"));
  model = await makeTinyModel(join(base, "model"));
});

async function run(name: string, changes: SomeSettings = {}, signal?: AbortSignal) {
  const out = join(base, name);
  const result = await train(tinySettings(model, out, changes), quietEnvironment(signal && { signal }));
  if (result.kind !== "trained") throw new Error("previewed");
  return { out, summary: result.summary };
}

describe.each(["lora", "fft"] as const)("train --method %s", (method) => {
  it("lowers training and validation loss and leaves a loadable best and last checkpoint", async () => {
    const { out, summary } = await run(`${method}-left`, { method });
    expect(summary).toMatchObject({ run: out, steps: 12, reason: "completed" });
    expect(summary.validationLoss.last!).toBeLessThan(summary.validationLoss.first!);
    expect(summary.loss.last!).toBeLessThan(summary.loss.first!);
    expect(readlinkSync(join(out, "last"))).toBe("checkpoints/step-12");
    const files = readdirSync(join(out, "best"));
    const weights =
      method === "lora" ? ["adapter_config.json", "adapter_model.safetensors"] : ["config.json", "model.safetensors", "tokenizer.json"];
    expect(files).toEqual(expect.arrayContaining([...weights, "prompt_template.json", "trainer_state.json"]));
    const loaded = await Model.load(method === "lora" ? model : join(out, "best"), { device: "cpu", dtype: "fp32" });
    if (method === "lora") await loaded.loadAdapter(join(out, "best"));
    await loaded.dispose();
  });

  it("records settings, hashes, machine and memory in run.json, and every step in metrics.jsonl", async () => {
    const record = JSON.parse(readFileSync(join(base, `${method}-left/run.json`), "utf8")) as RunRecord;
    expect(record.settings).toMatchObject({ method, maxSteps: 12, batchSize: 8 });
    expect(record.resolved).toMatchObject({
      steps: 12,
      stepsPerEpoch: 6,
      microBatchTokens: 512,
      trainingExamples: 48,
      validationExamples: 12,
    });
    expect(record.data[0]).toMatchObject({ file: join(sampleFolder, "alpaca.en.json"), sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(record.memory.total).toBeGreaterThan(0);
    expect(record.machine.threads).toBeGreaterThan(0);
    const lines = loggedLines(join(base, `${method}-left`));
    expect(lines.filter((line) => line.loss !== undefined).map((line) => line.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(lines.filter((line) => line.validationLoss !== undefined).map((line) => line.step)).toEqual([0, 4, 8, 12]);
  });

  it("stopped by a signal and resumed, ends byte for byte as a run left alone", async () => {
    const stop = new AbortController();
    let steps = 0;
    const settings = tinySettings(model, join(base, `${method}-stopped`), { method });
    const progress = { note: () => {}, stop: () => {}, update: () => ++steps === 5 && stop.abort() };
    const stopped = train(settings, quietEnvironment({ signal: stop.signal, openProgress: () => progress }));
    await expect(stopped).rejects.toMatchObject({ code: "CANCELLED", message: expect.stringContaining("after step 5 of 12") });
    const { out } = await run(`${method}-stopped`, { method, resume: true });
    expect(checkpointHashes(join(out, "last"))).toEqual(checkpointHashes(join(base, `${method}-left/last`)));
    expect(loggedLines(out)).toEqual(loggedLines(join(base, `${method}-left`)));
  });

  it("gives the same losses with other micro-batches, dropout included", async () => {
    const { out } = await run(`${method}-small`, { method, microBatchTokens: 130 });
    const losses = (name: string): number[] => loggedLines(join(base, name)).flatMap(({ loss }) => loss ?? []);
    const expected = losses(`${method}-left`);
    losses(`${method}-small`).forEach((loss, index) => {
      expect(loss).toBeCloseTo(expected[index]!, 4);
    });
    expect(existsSync(out)).toBe(true);
  });
});

describe("train", () => {
  it("refuses to start where there is a run, and to resume it with other settings", async () => {
    await expect(run("lora-left")).rejects.toMatchObject({ code: "USAGE", message: expect.stringContaining("Pass --resume") });
    await expect(run("lora-left", { resume: true, learningRate: 0.5, batchSize: 4 })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/--learning-rate: 0\.01 there, 0\.5 now\n.*--batch-size: 8 there, 4 now/),
    });
  });

  it("--dry-run shows tokens, mask, counts and memory, and writes nothing", async () => {
    const out = join(base, "dry");
    const result = await train(tinySettings(model, out, { method: "fft", dryRun: true }), quietEnvironment());
    if (result.kind !== "preview") throw new Error("trained");
    const { preview, text } = result;
    expect(preview).toMatchObject({ steps: 12, trainingExamples: 48, validationExamples: 12, withoutTarget: [] });
    expect(preview.paddedTokens).toBeGreaterThan(preview.tokens);
    expect(preview.targetTokens).toBeLessThan(preview.tokens);
    expect(preview.samples[0]?.labels[0]).toBe(-100);
    expect(text).toContain("masked");
    expect(text).toContain("trained");
    expect(preview.samples[0]?.tokens.join("")).toContain("Below is an instruction that describes a task"); // text, not pieces
    expect(existsSync(out)).toBe(false);
  });

  it("refuses with figures a run that does not fit the memory", async () => {
    await expect(run("huge", { microBatchTokens: 2 ** 30 })).rejects.toMatchObject({
      code: "OUT_OF_MEMORY",
      message: expect.stringMatching(/needs [\d,]+ MiB .* MiB are available/),
    });
    expect(existsSync(join(base, "huge"))).toBe(false);
  });

  it("refuses a LoRA target that names no module, and a validation set larger than half the data", async () => {
    await expect(run("bad-target", { loraTargets: ["q_proj"] })).rejects.toThrow(/"q_proj" names no linear module/);
    await expect(run("bad-split", { validationSize: 31 })).rejects.toThrow(/validation/);
  });

  it("stops at a learning rate that blows up, naming step and records, and keeps the last good checkpoint", async () => {
    const blowUp = run("blow-up", { method: "fft", learningRate: 1e30, warmupSteps: 4, saveEvery: 1, maxGradNorm: 0 });
    await expect(blowUp).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringMatching(/^step \d+: .*alpaca\.en\.json lines \d+/),
    });
    expect(existsSync(join(base, "blow-up/not-finite.json"))).toBe(true);
  });
});

describe("after training", () => {
  const silent = { update: () => {}, note: () => {}, stop: () => {} };
  const environment = { note: () => {}, openProgress: () => silent, now: () => performance.now() };

  function generateSettings(out: string): GenerateSettings {
    const prompts = join(base, "test_en.jsonl");
    const rows = ["Name three colours.", "Say hello in French.", "What is 2 + 2?", "Why is the sky blue? Explain it to a child."];
    writeFileSync(prompts, rows.map((prompt, id) => `${JSON.stringify({ id, prompt })}\n`).join(""));
    return {
      ...{ model, adapter: join(base, "lora-left/best"), prompts: [prompts], out, preset: null, batchSize: 2, seed: 0, device: "cpu" },
      ...{ decoding: { numBeams: 2, maxNewTokens: 8 }, language: null, template: null, system: null, condition: null },
      ...{ dtype: "fp32" as const, skipBadRecords: false },
    };
  }

  it("generate answers every prompt once, named after the run, and goes on where it was cut", async () => {
    const settings = generateSettings(join(base, "answers.jsonl"));
    const summary = await generate(settings, environment);
    expect(summary).toMatchObject({ out: settings.out, responses: 4 });
    expect(summary.tokens).toBeGreaterThan(0);
    const text = readFileSync(settings.out, "utf8");
    const rows = text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as ResponseRow);
    expect(rows.map((row) => row.id).sort()).toEqual([0, 1, 2, 3]);
    expect(rows[0]).toMatchObject({ language: "en", system: "lora-left", model: "model", method: "lora", seed: 42, condition: null });

    writeFileSync(settings.out, text.slice(0, text.length - 20)); // the last row is cut off
    expect(await generate(settings, environment)).toMatchObject({ responses: 4 });
    expect(readFileSync(settings.out, "utf8")).toBe(text);
    expect(await generate(settings, environment)).toMatchObject({ responses: 4, tokens: 0 });
  });

  it("generate refuses to add rows made with other settings", async () => {
    const settings = { ...generateSettings(join(base, "answers.jsonl")), decoding: { numBeams: 2, maxNewTokens: 9 } };
    await expect(generate(settings, environment)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("maxNewTokens was 8, is 9"),
    });
  });

  it("merge --verify finds the merged model equal to base and adapter", async () => {
    const adapter = join(base, "lora-left/best");
    const result = await mergeAdapter({ model, adapter, out: join(base, "merged"), verify: true });
    expect(result.dtype).toBe("fp32");
    expect(result.verification!.relativeL2).toBeGreaterThan(0);
    expect(existsSync(join(base, "merged/prompt_template.json"))).toBe(true);
  });

  it("inspect counts parameters and plans memory for both methods", async () => {
    const report = await inspectModel(model, { device: "cpu", dtype: "fp32", microBatchTokens: 512 });
    expect(report).toMatchObject({ modelType: "bloom", layers: 2, hiddenSize: 32, dtypes: { F32: report.parameters } });
    expect(report.loraTargets).toContain("query_key_value");
    expect(report.memory.fft.optimizer).toBeGreaterThan(report.memory.lora.optimizer);
  });
});
