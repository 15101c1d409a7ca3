/** What a GPU's back end says of its memory and speed, on the emulator: the same code counts, plans and measures on a GPU. */
import { describe, expect, it } from "vitest";
import { decoderSpecFromConfig } from "../../src/families/index.js";
import type { LoraOptions, TrainerOptions } from "../../src/native/addon-types.js";
import { loadAddon } from "../../src/native/load.js";
import { Model } from "../../src/native/model.js";
import { Trainer } from "../../src/native/trainer.js";
import { adamW } from "../../src/train/presets.js";

const addon = loadAddon();
const device = "cuda-emulated";
const hasEmulator = addon.machine().cudaEmulator;
if (!hasEmulator) console.log("device memory by emulation: skipped, this build has no emulator (POLYPACA_EMULATOR=ON npm run build)");

const tokens = 96;
const configs = {
  "a tied head and biases": { model_type: "bloom", vocab_size: 1500, hidden_size: 96, n_layer: 2, n_head: 4, layer_norm_epsilon: 1e-5 },
  "a head of its own, no biases": {
    ...{ model_type: "llama", vocab_size: 700, hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 320 },
    ...{ hidden_act: "silu", max_position_embeddings: 256, rms_norm_eps: 1e-5, tie_word_embeddings: false },
  },
} as const;

const adapters: Record<string, LoraOptions> = Object.fromEntries(
  Object.entries({ bloom: ["query_key_value"], llama: ["q_proj", "k_proj", "v_proj"] }).map(([type, targets]) => [
    type,
    { rank: 8, alpha: 16, dropout: 0.05, scaling: 2, targets, seed: 1 },
  ]),
);

const held = (): number => addon.memoryUsage(device).resident;

describe.skipIf(!hasEmulator)("a device's memory", () => {
  it("is counted while a model is open, and given back when it is closed; the most stays", async () => {
    const before = held();
    const spec = decoderSpecFromConfig(configs["a head of its own, no biases"], "test");
    const model = await Model.init(spec, { device, seed: 1 });
    const open = held();
    expect(open - before).toBeGreaterThanOrEqual(2 * model.parameters);
    await model.dispose();
    expect(held()).toBe(before);
    expect(addon.memoryUsage(device).peakResident).toBeGreaterThanOrEqual(open);
    expect(addon.memoryUsage(device).available).toBeGreaterThan(0);
  });

  for (const [name, config] of Object.entries(configs)) {
    for (const method of ["lora", "fft"] as const) {
      it(`is predicted within 5% for ${method} with ${name}`, async () => {
        const spec = decoderSpecFromConfig(config, "test");
        const lora = method === "lora" ? adapters[config.model_type]! : null;
        const options: TrainerOptions = {
          ...adamW,
          method,
          weightDecay: 0,
          maxGradNorm: 1,
          recompute: "none",
          microBatchTokens: tokens,
          seed: 0,
        };
        const plan = addon.planMemory(spec, lora, { device, dtype: "bf16", allowOvercommit: false }, options);
        const before = held();
        const model = await Model.init(spec, { device, dtype: "bf16", seed: 1 });
        if (lora) await model.addLora(lora);
        const trainer = new Trainer(model, options);
        const ids = Int32Array.from({ length: tokens }, (_, i) => (i * 7) % spec.vocabSize);
        const batch = { inputIds: ids, labels: ids, sequenceLengths: Int32Array.of(tokens) };
        for (let step = 0; step < 2; step++) await trainer.step([batch], { learningRate: 1e-4, targetTokens: tokens - 1 });
        const taken = held() - before;
        expect(taken / plan.total).toBeGreaterThan(0.95);
        expect(taken / plan.total).toBeLessThan(1.05);
        await trainer.dispose();
        await model.dispose();
        expect(held()).toBe(before);
      });
    }
  }
});

describe.skipIf(!hasEmulator)("a device's GEMM peak", () => {
  it("is the rate of its own bf16 products", async () => {
    expect(await addon.measurePeak("bf16", 1, device)).toBeGreaterThan(0);
    await expect(addon.measurePeak("fp32", 1, device)).rejects.toThrow("bf16 only");
  });
});
