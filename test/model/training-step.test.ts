import { describe, expect, it } from "vitest";
import type { Model } from "../../src/native/model.js";
import { Trainer } from "../../src/native/trainer.js";
import { type TinyFamily, targetsOf, tinyBatch, tinyConfigs, tinyModel, tinyTargets } from "./tiny-model.js";

const families = Object.keys(tinyConfigs) as TinyFamily[];
const vocab = (family: TinyFamily): number => tinyConfigs[family].vocab_size;

async function values(model: Model, kind: "weights" | "adapter"): Promise<Float32Array[]> {
  return Promise.all(model.tensors(kind).map(async ({ name }) => (await model.read(name)).data));
}

interface RunOptions {
  readonly family: TinyFamily;
  readonly lora?: number; // dropout
  readonly recompute?: "none" | "block";
  readonly dtype?: "fp32" | "bf16";
  readonly splits?: readonly (readonly number[])[];
}

const lengths = [23, 9, 17, 1, 12];

/** Three steps over the same five examples; `splits` says which examples stand in which micro-batch. */
async function run({ family, lora, recompute = "none", dtype = "fp32", splits = [[0, 1, 2, 3, 4]] }: RunOptions) {
  const model = await tinyModel(family, { dtype });
  if (lora !== undefined) await model.addLora({ rank: 4, alpha: 8, dropout: lora, targets: tinyTargets(family), seed: 3 });
  const trainer = new Trainer(model, { microBatchTokens: 64, recompute, seed: 11, weightDecay: 0.1 });
  const whole = tinyBatch(vocab(family), lengths);
  const starts = lengths.map((_, i) => lengths.slice(0, i).reduce((a, b) => a + b, 0));
  const pick = (source: Int32Array, indices: readonly number[]): Int32Array =>
    Int32Array.from(indices.flatMap((i) => [...source.subarray(starts[i], starts[i]! + lengths[i]!)]));
  const batches = splits.map((indices) => ({
    inputIds: pick(whole.inputIds, indices),
    labels: pick(whole.labels, indices),
    sequenceLengths: Int32Array.from(indices, (i) => lengths[i]!),
    exampleIndices: Int32Array.from(indices),
  }));
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 0; step < 3; step += 1) {
    const result = await trainer.step(batches, { learningRate: 0.01, targetTokens: targetsOf(whole) });
    losses.push(result.loss);
    norms.push(result.gradNorm);
  }
  const trained = await values(model, lora === undefined ? "weights" : "adapter");
  await trainer.dispose();
  await model.dispose();
  return { losses, norms, trained };
}

/** What a comparison that takes NaN for NaN needs. */
function bytes(values: Float32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");
}

function largestDifference(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  return Math.max(...a.map((x, i) => x.reduce((m, v, j) => Math.max(m, Math.abs(v - b[i]![j]!)), 0)));
}

describe.each(families)("%s: a training step", (family) => {
  it.each([undefined, 0.3])("lowers the loss on the batch it repeats (adapter dropout: %s)", async (lora) => {
    const { losses } = await run({ family, ...(lora !== undefined && { lora: 0 }) });
    expect(losses[2]).toBeLessThan(losses[0]!);
  });

  it.each([{ lora: 0.3 }, {}])("is bit-identical when it is repeated (%o)", async (options) => {
    const [a, b] = [await run({ family, ...options }), await run({ family, ...options })];
    expect(b.losses).toEqual(a.losses);
    expect(largestDifference(a.trained, b.trained)).toBe(0);
  });

  it("does not depend on how examples are packed into micro-batches, dropout masks included", async () => {
    const whole = await run({ family, lora: 0.3 });
    const split = await run({ family, lora: 0.3, splits: [[3, 0], [4], [2, 1]] });
    split.losses.forEach((loss, i) => {
      expect(loss).toBeCloseTo(whole.losses[i]!, 5);
    });
    split.norms.forEach((norm, i) => {
      expect(norm / whole.norms[i]!).toBeCloseTo(1, 4);
    });
  });

  it.each([{ lora: 0.3 }, {}])("gives the same bits with --recompute block (%o)", async (options) => {
    const [kept, recomputed] = [await run({ family, ...options }), await run({ family, ...options, recompute: "block" })];
    expect(recomputed.losses).toEqual(kept.losses);
    expect(largestDifference(kept.trained, recomputed.trained)).toBe(0);
  });

  it("in bf16 stays near fp32", async () => {
    const [wide, narrow] = [await run({ family }), await run({ family, dtype: "bf16" })];
    narrow.losses.forEach((loss, i) => {
      expect(Math.abs(loss - wide.losses[i]!) / wide.losses[i]!).toBeLessThan(0.02);
    });
  });

  it("with B = 0 an adapter changes nothing", async () => {
    const model = await tinyModel(family);
    const { inputIds, sequenceLengths } = tinyBatch(vocab(family), lengths);
    const before = await model.logits({ inputIds, sequenceLengths });
    await model.addLora({ rank: 4, targets: tinyTargets(family), seed: 5 });
    const after = await model.logits({ inputIds, sequenceLengths });
    expect(largestDifference([before], [after])).toBe(0);
    await model.dispose();
  });

  it("merged weights give the logits of base and adapter", async () => {
    const model = await tinyModel(family);
    await model.addLora({ rank: 4, targets: tinyTargets(family), seed: 5 });
    const trainer = new Trainer(model, { microBatchTokens: 64 });
    const batch = tinyBatch(vocab(family), lengths);
    for (let i = 0; i < 2; i += 1) await trainer.step([batch], { learningRate: 0.05, targetTokens: targetsOf(batch) });
    await trainer.dispose();
    const adapted = await model.logits(batch);
    await model.merge();
    const merged = await model.logits(batch);
    const scale = adapted.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    expect(largestDifference([adapted], [merged]) / scale).toBeLessThan(1e-5);
    expect(model.tensors("adapter")).toEqual([]);
    await model.dispose();
  });

  it("answers a batch of prompts as it answers each alone, and streams the same tokens", async () => {
    const model = await tinyModel(family);
    const { inputIds } = tinyBatch(vocab(family), [20]);
    const prompts = [inputIds.slice(0, 3), inputIds.slice(2, 14), inputIds.slice(5, 6)];
    const options = { maxNewTokens: 9, eosTokenId: -1 };
    const together = await model.generateBatch(prompts, options);
    for (const [index, prompt] of prompts.entries()) {
      const [alone] = await model.generateBatch([prompt], options);
      const streamed: number[] = [];
      for await (const token of model.generate(prompt, options)) streamed.push(token);
      expect([...alone!.tokens]).toEqual([...together[index]!.tokens]);
      expect(streamed).toEqual([...alone!.tokens]);
    }
    await model.dispose();
  });
});

describe("a step that is not taken", () => {
  const batch = tinyBatch(97, [30, 20]);

  async function setUp() {
    const model = await tinyModel("bloom");
    return { model, trainer: new Trainer(model, { microBatchTokens: 64 }) };
  }

  it("leaves weights and step counter alone when it is cancelled", async () => {
    const { model, trainer } = await setUp();
    await trainer.prepare();
    const before = await values(model, "weights");
    const abort = new AbortController();
    const running = trainer.step(Array(50).fill(batch), { learningRate: 0.1, targetTokens: 50 * targetsOf(batch), signal: abort.signal });
    abort.abort();
    await expect(running).rejects.toMatchObject({ code: "CANCELLED" });
    expect(largestDifference(before, await values(model, "weights"))).toBe(0);
    expect(await trainer.stepsTaken()).toBe(0);
    await trainer.step([batch], { learningRate: 0.1, targetTokens: targetsOf(batch) }); // and goes on afterwards
    expect(await trainer.stepsTaken()).toBe(1);
    await model.dispose();
  });

  it("refuses a label outside the vocabulary, a wrong target count and a batch over its capacity, naming them", async () => {
    const { model, trainer } = await setUp();
    const labels = batch.labels.slice();
    labels[7] = 97;
    const options = { learningRate: 0.1, targetTokens: targetsOf(batch) };
    await expect(trainer.step([{ ...batch, labels }], options)).rejects.toThrow("labels[7] is 97");
    await expect(trainer.step([batch], { ...options, targetTokens: 3 })).rejects.toThrow("targetTokens is 3");
    await expect(trainer.step([tinyBatch(97, [65])], options)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    await model.dispose();
  });

  it("rejects with NOT_FINITE where the weights overflow, and leaves them alone", async () => {
    const { model, trainer } = await setUp();
    const options = { learningRate: 1e38, targetTokens: targetsOf(batch) };
    await trainer.step([batch], options); // blows the weights up
    const before = await values(model, "weights");
    await expect(trainer.step([batch], options)).rejects.toMatchObject({ code: "NOT_FINITE" });
    expect((await values(model, "weights")).map(bytes)).toEqual(before.map(bytes)); // infinities included
    await model.dispose();
  });

  it("throws DISPOSED after dispose, which may be called twice and waits for the running job", async () => {
    const { model, trainer } = await setUp();
    const running = trainer.step([batch], { learningRate: 0.1, targetTokens: targetsOf(batch) });
    await running;
    await Promise.all([trainer.dispose(), trainer.dispose()]);
    await model.dispose();
    await model.dispose();
    await expect(model.logits(batch.inputIds)).rejects.toMatchObject({ code: "DISPOSED" });
    await expect(trainer.step([batch], { learningRate: 0.1, targetTokens: 1 })).rejects.toMatchObject({ code: "DISPOSED" });
  });
});
