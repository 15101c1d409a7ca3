import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { decoderSpecFromConfig } from "../../src/families/index.js";
import { loadAddon, packageRoot } from "../../src/native/load.js";
import { Model } from "../../src/native/model.js";
import { Trainer } from "../../src/native/trainer.js";
import { targetsOf, tinyBatch, tinyModel, tinyTargets } from "../model/tiny-model.js";

const mebibyte = 2 ** 20;

describe("native memory", () => {
  it("stays flat over 1,000 rounds of load, step and dispose", async () => {
    const batch = tinyBatch(97, [40, 23]);
    const round = async (index: number): Promise<void> => {
      const model = await tinyModel("bloom", { seed: index, dtype: index % 2 === 0 ? "fp32" : "bf16" });
      if (index % 3 === 0) await model.addLora({ rank: 4, dropout: 0.1, targets: tinyTargets("bloom") });
      const trainer = new Trainer(model, { microBatchTokens: 64 });
      await trainer.step([batch], { learningRate: 1e-3, targetTokens: targetsOf(batch) });
      if (index % 5 === 0) await model.generateBatch([batch.inputIds.slice(0, 9)], { maxNewTokens: 4, eosTokenId: -1 });
      await trainer.dispose();
      await model.dispose();
    };
    for (let i = 0; i < 200; i += 1) await round(i);
    const before = loadAddon().memoryUsage().resident;
    for (let i = 0; i < 1000; i += 1) await round(i);
    const grown = loadAddon().memoryUsage().resident - before;
    // One round holds about 2 MiB of weights, moments and workspaces: a leak of a hundredth of it would show as 20 MiB.
    expect(grown / mebibyte).toBeLessThan(16);
  });

  it("is freed when models are collected without dispose", async () => {
    const spec = decoderSpecFromConfig(
      { model_type: "bloom", vocab_size: 20_000, hidden_size: 256, n_layer: 1, n_head: 4, layer_norm_epsilon: 1e-5 },
      "config.json",
    );
    const load = async (): Promise<void> => {
      const model = await Model.init(spec, { dtype: "fp32", seed: 1 }); // 23 MiB each
      expect(model.parameters).toBeGreaterThan(5e6);
    };
    await load();
    const before = loadAddon().memoryUsage().resident;
    for (let i = 0; i < 60; i += 1) await load();
    // The engine was told of each model's bytes, so it collects without being asked; give it turns to run finalizers.
    for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
    expect((loadAddon().memoryUsage().resident - before) / mebibyte).toBeLessThan(60 * 23 * 0.7);
  });

  it("of BLOOM's 250,880 rows does not hold logits for every token", () => {
    // 2,048 tokens would make 2 GiB of fp32 logits, and as much again for their gradient.
    const script = `
      const { decoderSpecFromConfig } = await import(${JSON.stringify(join(packageRoot(), "dist/families/index.js"))});
      const { Model } = await import(${JSON.stringify(join(packageRoot(), "dist/native/model.js"))});
      const { Trainer } = await import(${JSON.stringify(join(packageRoot(), "dist/native/trainer.js"))});
      const { loadAddon } = await import(${JSON.stringify(join(packageRoot(), "dist/native/load.js"))});
      const spec = decoderSpecFromConfig({ model_type: "bloom", vocab_size: 250880, hidden_size: 64, n_layer: 2, n_head: 4, layer_norm_epsilon: 1e-5 }, "config.json");
      const model = await Model.init(spec, { dtype: "fp32", seed: 1 });
      await model.addLora({ targets: ["query_key_value"] });
      const trainer = new Trainer(model, { microBatchTokens: 2048 });
      const ids = new Int32Array(2048).map((_, i) => (i * 7919) % 250880);
      const { loss } = await trainer.step([{ inputIds: ids, labels: ids, sequenceLengths: Int32Array.of(1024, 1024) }], { learningRate: 1e-3, targetTokens: 2046 });
      console.log(JSON.stringify({ loss, peak: loadAddon().memoryUsage().peakResident }));`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    const { loss, peak } = JSON.parse(stdout || `{"loss": "${stderr}"}`) as { loss: number; peak: number };
    expect(loss).toBeGreaterThan(10);
    expect(peak / mebibyte).toBeLessThan(700);
  });

  it("is planned to within 32 MiB of what a run takes, packing buffers of the products included", () => {
    // Long inner dimensions: those buffers alone are 37 MiB. What no plan counts (JavaScript's heap, batches, stacks) is about 20.
    const script = `
      const { decoderSpecFromConfig } = await import(${JSON.stringify(join(packageRoot(), "dist/families/index.js"))});
      const { Model } = await import(${JSON.stringify(join(packageRoot(), "dist/native/model.js"))});
      const { Trainer } = await import(${JSON.stringify(join(packageRoot(), "dist/native/trainer.js"))});
      const { loadAddon } = await import(${JSON.stringify(join(packageRoot(), "dist/native/load.js"))});
      const spec = decoderSpecFromConfig({ model_type: "bloom", vocab_size: 1000, hidden_size: 2048, n_layer: 1, n_head: 16, layer_norm_epsilon: 1e-5 }, "config.json");
      const before = loadAddon().memoryUsage().resident;
      const model = await Model.init(spec, { dtype: "fp32", seed: 1 });
      await model.addLora({ targets: ["query_key_value"], dropout: 0.05 });
      const trainer = new Trainer(model, { microBatchTokens: 2048 });
      const { total } = await trainer.prepare();
      const ids = new Int32Array(2048).map((_, i) => (i * 7919) % 1000);
      const batch = { inputIds: ids, labels: ids, sequenceLengths: Int32Array.of(1024, 1024) };
      const short = { inputIds: ids.slice(0, 700), labels: ids.slice(0, 700), sequenceLengths: Int32Array.of(700) };
      await trainer.step([batch, short], { learningRate: 1e-3, targetTokens: 2046 + 699 });
      console.log(JSON.stringify({ planned: total, taken: loadAddon().memoryUsage().peakResident - before }));`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect(stderr).toBe("");
    const { planned, taken } = JSON.parse(stdout) as { planned: number; taken: number };
    expect(Math.abs(planned - taken) / mebibyte).toBeLessThan(32);
  });

  it("that is not there is refused before it is used, with figures, under an address-space limit", () => {
    const script = `
      const { decoderSpecFromConfig } = await import(${JSON.stringify(join(packageRoot(), "dist/families/index.js"))});
      const { Model } = await import(${JSON.stringify(join(packageRoot(), "dist/native/model.js"))});
      const { Trainer } = await import(${JSON.stringify(join(packageRoot(), "dist/native/trainer.js"))});
      const { loadAddon } = await import(${JSON.stringify(join(packageRoot(), "dist/native/load.js"))});
      const spec = decoderSpecFromConfig({ model_type: "bloom", vocab_size: 50000, hidden_size: 512, n_layer: 4, n_head: 8, layer_norm_epsilon: 1e-5 }, "config.json");
      const model = await Model.init(spec, { dtype: "fp32", seed: 1 });
      const before = loadAddon().memoryUsage().resident;
      try {
        await new Trainer(model, { microBatchTokens: 65536 }).prepare();
      } catch (error) {
        console.log(JSON.stringify({ code: error.code, message: error.message, taken: loadAddon().memoryUsage().resident - before }));
      }`;
    const limited = spawnSync("bash", ["-c", `ulimit -v 8000000; exec "$0" --input-type=module -e "$1"`, process.execPath, script], {
      encoding: "utf8",
    });
    const result = JSON.parse(limited.stdout || `{"message": ${JSON.stringify(limited.stderr)}}`) as {
      code: string;
      message: string;
      taken: number;
    };
    expect(result.message).toMatch(/needs [\d.]+ GiB, but .* leaves [\d.]+ [MG]iB/);
    expect(result.code).toBe("OUT_OF_MEMORY");
    expect(result.taken / mebibyte).toBeLessThan(64);
  });
});

describe("the addon in worker threads", () => {
  it("loads there, runs, and survives a worker that is terminated in the middle of a step", async () => {
    const script = `
      const { parentPort } = require("node:worker_threads");
      const run = async () => {
        const { decoderSpecFromConfig } = await import(${JSON.stringify(join(packageRoot(), "dist/families/index.js"))});
        const { Model } = await import(${JSON.stringify(join(packageRoot(), "dist/native/model.js"))});
        const { Trainer } = await import(${JSON.stringify(join(packageRoot(), "dist/native/trainer.js"))});
        const spec = decoderSpecFromConfig({ model_type: "bloom", vocab_size: 1000, hidden_size: 128, n_layer: 2, n_head: 4, layer_norm_epsilon: 1e-5 }, "config.json");
        const model = await Model.init(spec, { dtype: "fp32", seed: 1 });
        const trainer = new Trainer(model, { microBatchTokens: 512 });
        const ids = new Int32Array(512).fill(7);
        const batch = { inputIds: ids, labels: ids, sequenceLengths: Int32Array.of(512) };
        const { loss } = await trainer.step([batch], { learningRate: 1e-3, targetTokens: 511 });
        parentPort.postMessage(loss);
        await trainer.step(Array(2000).fill(batch), { learningRate: 1e-3, targetTokens: 511 * 2000 });
      };
      run();`;
    for (let i = 0; i < 3; i += 1) {
      const worker = new Worker(script, { eval: true });
      const loss = await new Promise<number>((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
      expect(loss).toBeGreaterThan(0);
      await worker.terminate();
    }
    const model = await tinyModel("bloom"); // the compute thread is still there for this thread
    expect((await model.logits(Int32Array.of(1, 2, 3))).length).toBe(3 * 97);
    await model.dispose();
  });
});
