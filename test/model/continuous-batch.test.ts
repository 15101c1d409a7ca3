import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ContinuousBatch, type DecodedToken, type SequenceOptions } from "../../src/generate/continuous-batch.js";
import type { Model } from "../../src/native/model.js";
import { Trainer } from "../../src/native/trainer.js";
import { type TinyFamily, targetsOf, tinyBatch, tinyConfigs, tinyModel, tinyTargets } from "./tiny-model.js";

const families = Object.keys(tinyConfigs) as TinyFamily[];

const greedy: SequenceOptions = {
  ...{ maxNewTokens: 12, temperature: 0, topK: 0, topP: 1, seed: 0, repetitionPenalty: 1, noRepeatNgramSize: 0 },
  ...{ minNewTokens: 0, eosTokenId: -1, topLogprobs: 0, adapter: null },
};

/** Ways of decoding that differ in everything a row can differ in. */
const ways: readonly Partial<SequenceOptions>[] = [
  {},
  { repetitionPenalty: 1.3 },
  { noRepeatNgramSize: 2, maxNewTokens: 20 },
  { temperature: 0.9, seed: 5 },
  { temperature: 1.4, topP: 0.8, seed: 6, maxNewTokens: 17 },
  { temperature: 0.7, topK: 9, seed: 7, repetitionPenalty: 1.1 },
  { temperature: 1, topK: 5, topP: 0.6, seed: 8, topLogprobs: 4 },
  { topLogprobs: 20, repetitionPenalty: 1.3, maxNewTokens: 3 },
];

function prompt(family: TinyFamily, length: number, first: number): Int32Array {
  return tinyBatch(tinyConfigs[family].vocab_size, [length], first).inputIds;
}

async function all(tokens: AsyncIterable<DecodedToken>): Promise<DecodedToken[]> {
  const list: DecodedToken[] = [];
  for await (const token of tokens) list.push(token);
  return list;
}

/**
 * Beside others a sequence's logits differ by rounding. So the same tokens with nearly the same log-probabilities are expected, up to a
 * token that was nearly as likely as another.
 */
function expectSameButForRounding(got: readonly DecodedToken[], alone: readonly DecodedToken[]): void {
  for (const [i, expected] of alone.entries()) {
    expect(Math.abs(got[i]!.logprob - expected.logprob)).toBeLessThan(1e-3);
    if (got[i]!.token !== expected.token) return;
  }
  expect(got.map(({ finish }) => finish)).toEqual(alone.map(({ finish }) => finish));
}

async function withBatch<T>(model: Model, slots: number, use: (batch: ContinuousBatch) => Promise<T>): Promise<T> {
  const batch = await ContinuousBatch.open(model, { slots, maxLength: 64 });
  try {
    return await use(batch);
  } finally {
    await batch.close();
  }
}

describe.each(families)("%s: a running batch", (family) => {
  let model: Model;
  beforeAll(async () => {
    model = await tinyModel(family);
  });
  afterAll(() => model.dispose());

  it("gives a sequence that is alone the tokens of generate", async () => {
    await withBatch(model, 3, async (batch) => {
      for (const [i, way] of ways.entries()) {
        const ids = prompt(family, 5 + 3 * i, i);
        const options = { ...greedy, ...way };
        const { topLogprobs, adapter, ...decoding } = options;
        const [expected] = await model.generateBatch([ids], { ...decoding, numBeams: 1 });
        const got = await all(batch.decode(ids, options));
        expect(got.map(({ token }) => token)).toEqual([...expected!.tokens]);
        expect(got.reduce((sum, { logprob }) => sum + logprob, 0)).toBeCloseTo(expected!.score, 3);
        expect(got.at(-1)!.finish).toBe("length");
        expect(got.every(({ top }) => top.length === topLogprobs)).toBe(true);
      }
    });
  });

  it("decodes sequences that join, leave and wait as it decodes them alone", async () => {
    const asked = Array.from({ length: 24 }, (_, i) => ({
      ids: prompt(family, 1 + ((7 * i) % 31), i),
      options: { ...greedy, ...ways[i % ways.length] },
    }));
    const alone = await withBatch(model, 1, async (batch) => {
      const results: DecodedToken[][] = [];
      for (const { ids, options } of asked) results.push(await all(batch.decode(ids, options)));
      return results;
    });
    await withBatch(model, 5, async (batch) => {
      const results = await Promise.all(
        asked.map(async ({ ids, options }, i) => {
          await new Promise((resolve) => setTimeout(resolve, i % 6));
          return all(batch.decode(ids, options));
        }),
      );
      results.forEach((got, i) => {
        expectSameButForRounding(got, alone[i]!);
      });
      expect([batch.running, batch.waiting]).toEqual([0, 0]);
    });
  });

  it("reports the model's own log-probabilities, whatever decides the token", async () => {
    const ids = prompt(family, 9, 1);
    const logits = (await model.logits(ids)).subarray(-tinyConfigs[family].vocab_size);
    const norm = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
    const likeliest = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!).slice(0, 6);
    await withBatch(model, 2, async (batch) => {
      const options = { ...greedy, maxNewTokens: 1, topLogprobs: 6, repetitionPenalty: 5, temperature: 2, seed: 3 };
      const [token] = await all(batch.decode(ids, options));
      expect(token!.top.map(({ token: id }) => id)).toEqual(likeliest);
      for (const { token: id, logprob } of [...token!.top, token!]) expect(logprob).toBeCloseTo(logits[id]! - norm, 4);
    });
  });
});

describe("sampling", () => {
  it("draws tokens as often as their probability says, of the nucleus only", async () => {
    const model = await tinyModel("bloom");
    const V = tinyConfigs.bloom.vocab_size;
    const ids = prompt("bloom", 7, 2);
    const logits = (await model.logits(ids)).subarray(-V);
    const draws = 3000;
    for (const { temperature, topP } of [
      { temperature: 1, topP: 1 },
      { temperature: 2, topP: 0.7 },
    ]) {
      const weights = [...logits].map((x) => Math.exp(x / temperature));
      const total = weights.reduce((a, b) => a + b);
      const order = [...weights.keys()].sort((a, b) => weights[b]! - weights[a]!);
      let reached = 0;
      const nucleus = order.filter((id) => {
        const within = reached < topP * total;
        if (within) reached += weights[id]!;
        return within;
      });
      const counts = new Map<number, number>();
      await withBatch(model, 64, async (batch) => {
        const tokens = await Promise.all(
          Array.from({ length: draws }, (_, seed) => all(batch.decode(ids, { ...greedy, maxNewTokens: 1, temperature, topP, seed }))),
        );
        for (const [{ token }] of tokens as [DecodedToken][]) counts.set(token, (counts.get(token) ?? 0) + 1);
      });
      expect([...counts.keys()].every((id) => nucleus.includes(id))).toBe(true);
      for (const id of nucleus) {
        const p = weights[id]! / reached;
        // Five standard deviations of a binomial count: by chance once in two million.
        expect(Math.abs((counts.get(id) ?? 0) - draws * p)).toBeLessThanOrEqual(1 + 5 * Math.sqrt(draws * p * (1 - p)));
      }
    }
    await model.dispose();
  });
});

describe("adapters of one model", () => {
  const folder = mkdtempSync(join(tmpdir(), "polypaca-adapters-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const family = "llama";
  const names = ["first", "second"];
  const ranks = [4, 2];

  /** Two adapters that were trained a little, so that B is not zero. */
  beforeAll(async () => {
    for (const [i, name] of names.entries()) {
      const model = await tinyModel(family);
      const targets = i === 0 ? tinyTargets(family) : ["k_proj"];
      await model.addLora({ rank: ranks[i]!, alpha: 16, targets, seed: i });
      const trainer = new Trainer(model, { microBatchTokens: 64, seed: 1 });
      const batch = tinyBatch(tinyConfigs[family].vocab_size, [20, 12], i);
      for (let step = 0; step < 3; step += 1) await trainer.step([batch], { learningRate: 0.05, targetTokens: targetsOf(batch) });
      await trainer.dispose();
      await model.saveAdapter(join(folder, name));
      await model.dispose();
    }
  });

  async function alone(name: string | null): Promise<number[]> {
    const model = await tinyModel(family);
    if (name !== null) await model.loadAdapter(join(folder, name));
    const [result] = await model.generateBatch([prompt(family, 6, 0)], { ...greedy, numBeams: 1 });
    await model.dispose();
    return [...result!.tokens];
  }

  it("decode side by side, each as it does alone, and leave the model with the adapter it had", async () => {
    const model = await tinyModel(family);
    for (const name of names) await model.loadAdapter(join(folder, name), name);
    await model.setAdapter("first");
    const expected = { first: await alone("first"), second: await alone("second"), none: await alone(null) };
    expect(new Set(Object.values(expected).map(String)).size).toBe(3); // they differ, or this test shows nothing
    await withBatch(model, 8, async (batch) => {
      const adapters = [null, "first", "second", "first", null, "second"];
      const results = await Promise.all(adapters.map((adapter) => all(batch.decode(prompt(family, 6, 0), { ...greedy, adapter }))));
      results.forEach((got, i) => {
        expect(got.map(({ token }) => token)).toEqual(expected[(adapters[i] ?? "none") as keyof typeof expected]);
      });
    });
    expect(model.lora?.rank).toBe(4);
    const ids = { ...greedy, numBeams: 1 };
    expect([...(await model.generateBatch([prompt(family, 6, 0)], ids))[0]!.tokens]).toEqual(expected.first);
    await model.setAdapter(null);
    expect([...(await model.generateBatch([prompt(family, 6, 0)], ids))[0]!.tokens]).toEqual(expected.none);
    await model.setAdapter("second");
    expect([...(await model.generateBatch([prompt(family, 6, 0)], ids))[0]!.tokens]).toEqual(expected.second);
    expect(model.tensors("adapter")).toHaveLength(2 * 3); // k_proj of three layers
    await model.dispose();
  });

  it("are refused where a name is taken or unknown, with the one in use left in use", async () => {
    const model = await tinyModel(family);
    await model.loadAdapter(join(folder, "first"), "first");
    await expect(model.loadAdapter(join(folder, "second"), "first")).rejects.toThrow(/named "first" already/);
    await expect(model.setAdapter("third")).rejects.toThrow(/no adapter named "third"/);
    const result = await model.generateBatch([prompt(family, 6, 0)], { ...greedy, numBeams: 1 });
    expect([...result[0]!.tokens]).toEqual(await alone("first"));
    await model.loadAdapter(join(folder, "second"), "second");
    await expect(model.merge()).rejects.toThrow(/other adapters/);
    await expect(model.addLora({ targets: ["q_proj"] })).rejects.toThrow(/has an adapter already/);
    await model.dispose();
  });

  it("fail alone where their weights are not finite", async () => {
    const model = await tinyModel(family);
    await model.addLora({ rank: 2, alpha: 1e38, targets: ["q_proj", "v_proj"], seed: 1 });
    const trainer = new Trainer(model, { microBatchTokens: 64, seed: 1 });
    const batch = tinyBatch(tinyConfigs[family].vocab_size, [20], 0);
    // alpha is so large that what B is after a step overflows.
    await trainer.step([batch], { learningRate: 1e30, targetTokens: targetsOf(batch) }).catch(() => {});
    await trainer.dispose();
    await model.saveAdapter(join(folder, "broken"));
    await model.dispose();

    const served = await tinyModel(family);
    await served.loadAdapter(join(folder, "first"), "first");
    await served.loadAdapter(join(folder, "broken"), "broken");
    const expected = await alone("first");
    await withBatch(served, 4, async (running) => {
      const good = all(running.decode(prompt(family, 6, 0), { ...greedy, adapter: "first" }));
      const bad = all(running.decode(prompt(family, 6, 0), { ...greedy, adapter: "broken" }));
      await expect(bad).rejects.toMatchObject({ code: "NOT_FINITE" });
      expect((await good).map(({ token }) => token)).toEqual(expected);
    });
    await served.dispose();
  });
});

describe("places in a running batch", () => {
  const family = "gpt_neox";
  let model: Model;
  beforeAll(async () => {
    model = await tinyModel(family);
  });
  afterAll(() => model.dispose());

  it("are given first come, first served, and given back by a reader that leaves", async () => {
    await withBatch(model, 2, async (batch) => {
      const order: number[] = [];
      const read = async (i: number, most: number): Promise<void> => {
        let count = 0;
        for await (const _ of batch.decode(prompt(family, 4, i), { ...greedy, maxNewTokens: 50 })) {
          if (count === 0) order.push(i);
          count += 1;
          if (count === most) break;
        }
      };
      const readers = [read(0, 50), read(1, 3), read(2, 50), read(3, 1), read(4, 50)];
      expect(batch.waiting).toBe(5);
      await Promise.all(readers);
      expect(order).toEqual([0, 1, 2, 3, 4]);
      expect([batch.running, batch.waiting]).toEqual([0, 0]);
    });
  });

  it.each<Partial<SequenceOptions>>([
    ...[{ topP: 0 }, { topP: 1e-60 }, { topP: 1.5 }, { temperature: -1 }, { temperature: Number.NaN }, { topK: -1 }, { seed: 2 ** 60 }],
    ...[{ repetitionPenalty: 0 }, { repetitionPenalty: 1e60 }, { maxNewTokens: 0 }, { minNewTokens: 0.5 }, { noRepeatNgramSize: -1 }],
  ])("are not had with %j, and the others do not notice", async (wrong) => {
    await withBatch(model, 2, async (batch) => {
      const good = all(batch.decode(prompt(family, 4, 0), greedy));
      const refusal = { code: "INVALID_ARGUMENT", message: expect.stringContaining(Object.keys(wrong)[0]!) };
      await expect(all(batch.decode(prompt(family, 4, 1), { ...greedy, ...wrong }))).rejects.toMatchObject(refusal);
      expect(await good).toHaveLength(12);
    });
  });

  it("are given back by a signal before a token comes", async () => {
    await withBatch(model, 1, async (batch) => {
      const first = batch.decode(prompt(family, 4, 0), { ...greedy, maxNewTokens: 50 });
      await first.next();
      const controller = new AbortController();
      const waiting = batch.decode(prompt(family, 4, 1), greedy, controller.signal).next();
      expect([batch.running, batch.waiting]).toEqual([1, 1]);
      controller.abort();
      await expect(waiting).rejects.toMatchObject({ code: "CANCELLED" });
      expect([batch.running, batch.waiting]).toEqual([1, 0]);
      expect(await all(first)).toHaveLength(49);
      await expect(batch.decode(prompt(family, 4, 1), greedy, controller.signal).next()).rejects.toMatchObject({ code: "CANCELLED" });
      expect([batch.running, batch.waiting]).toEqual([0, 0]);
    });
  });

  it("are not taken by a reader that leaves while it waits", async () => {
    await withBatch(model, 1, async (batch) => {
      const first = all(batch.decode(prompt(family, 4, 0), { ...greedy, maxNewTokens: 30 }));
      const impatient = batch.decode(prompt(family, 4, 1), greedy);
      const asked = impatient.next();
      await new Promise((resolve) => setImmediate(resolve));
      const third = all(batch.decode(prompt(family, 4, 2), greedy));
      const left = impatient.return();
      expect(await first).toHaveLength(30);
      expect(await third).toHaveLength(12);
      await Promise.all([asked, left]);
      expect([batch.running, batch.waiting]).toEqual([0, 0]);
    });
  });

  it("end with the batch: readers are told, later ones refused", async () => {
    const batch = await ContinuousBatch.open(model, { slots: 1, maxLength: 64 });
    const readers = [0, 1, 2].map((i) => all(batch.decode(prompt(family, 4, i), { ...greedy, maxNewTokens: 60 })));
    const outcomes = Promise.allSettled(readers);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await batch.close();
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ status: "rejected", reason: { code: "CANCELLED" } });
    await expect(all(batch.decode(prompt(family, 4, 0), greedy))).rejects.toMatchObject({ code: "DISPOSED" });
    await batch.close();
  });

  it("hold no more than maxLength tokens of prompt and answer", async () => {
    await withBatch(model, 1, async (batch) => {
      const got = await all(batch.decode(prompt(family, 60, 0), { ...greedy, maxNewTokens: 50 }));
      expect(got).toHaveLength(4);
      expect(got.at(-1)!.finish).toBe("length");
    });
    await expect(ContinuousBatch.open(model, { slots: 1, maxLength: 1000 })).rejects.toThrow(/256 positions/);
    await expect(ContinuousBatch.open(model, { slots: 1e9, maxLength: 256 })).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
  });

  it("are refused to prompts that cannot be decoded, and the others go on", async () => {
    await withBatch(model, 2, async (batch) => {
      const good = all(batch.decode(prompt(family, 4, 0), greedy));
      const refused = (ids: Int32Array, options: Partial<SequenceOptions> = {}) => all(batch.decode(ids, { ...greedy, ...options }));
      await expect(refused(new Int32Array(0))).rejects.toThrow(/empty/);
      await expect(refused(prompt(family, 64, 0))).rejects.toThrow(/64 tokens leave no room/);
      await expect(refused(Int32Array.of(3, 5000))).rejects.toThrow(/5000/);
      await expect(refused(prompt(family, 4, 0), { adapter: "none" })).rejects.toThrow(/no adapter named "none"/);
      await expect(refused(prompt(family, 4, 0), { topLogprobs: 21 })).rejects.toThrow(/0 to 20/);
      expect(await good).toHaveLength(12);
    });
  });

  it("stop a sequence at EOS", async () => {
    await withBatch(model, 1, async (batch) => {
      const plain = await all(batch.decode(prompt(family, 4, 0), greedy));
      const eosTokenId = plain[4]!.token;
      const stopped = await all(batch.decode(prompt(family, 4, 0), { ...greedy, eosTokenId }));
      expect(stopped).toHaveLength(plain.findIndex(({ token }) => token === eosTokenId) + 1);
      expect(stopped.at(-1)!.finish).toBe("stop");
      const later = await all(batch.decode(prompt(family, 4, 0), { ...greedy, eosTokenId, minNewTokens: 12 }));
      expect(later.some(({ token }) => token === eosTokenId)).toBe(false);
    });
  });
});
