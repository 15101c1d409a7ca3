import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { decoderSpecFromConfig } from "../../src/families/index.js";
import { Model } from "../../src/native/model.js";
import { compile, runCli } from "../cli/run-cli.js";
import { philox4x32 } from "../reference/philox.js";
import { unitRoundoff } from "../tolerances.js";

const deviation = Math.fround(0.02);

/** Element i of sequence `stream`: Box and Muller's two draws from words 0 and 1 of Philox block i div 2, cosine first. */
function normalDraw(seed: number, stream: number, i: number): number {
  const [r0, r1] = philox4x32(10, [Math.floor(i / 2), 0, stream, 0x4e4f524d], [seed, 0]);
  const radius = Math.sqrt(-2 * Math.log((r0 + 0.5) / 2 ** 32));
  const angle = 2 * Math.PI * ((r1 + 0.5) / 2 ** 32);
  return deviation * radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
}

/** A BLOOM of one layer; its embedding is parameter 0, its first norm 1 and 2, layer 0's norm 3 and 4, query_key_value 5. */
function bloom(vocabulary: number, hidden: number, heads: number, seed: number): Promise<Model> {
  const config = { model_type: "bloom", vocab_size: vocabulary, hidden_size: hidden, n_layer: 1, n_head: heads, layer_norm_epsilon: 1e-5 };
  return Model.init(decoderSpecFromConfig(config, "the test"), { device: "cpu", dtype: "fp32", seed, initializerRange: 0.02 });
}

async function expectDraws(model: Model, name: string, stream: number, seed: number, places: (count: number) => readonly number[]) {
  const { data } = await model.read(name);
  for (const i of places(data.length)) {
    const expected = normalDraw(seed, stream, i);
    expect(Math.abs(data[i]! - expected), `${name}[${i}]`).toBeLessThanOrEqual(2 * unitRoundoff.fp32 * Math.abs(expected));
  }
}

const all = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe("random initialisation", () => {
  it("draws each matrix from its own sequence, a function of seed, parameter and place; an odd count ends in half a pair", async () => {
    const model = await bloom(31, 33, 3, 5);
    await expectDraws(model, "transformer.word_embeddings.weight", 0, 5, all);
    await expectDraws(model, "transformer.h.0.self_attention.query_key_value.weight", 5, 5, all);
    await model.dispose();
  });

  it("has no seam in a matrix that is drawn in several pieces", async () => {
    const model = await bloom(70_000, 64, 1, 6);
    const piece = 2 ** 22;
    await expectDraws(model, "transformer.word_embeddings.weight", 0, 6, (count) => [
      ...[0, 1, count / 4 - 1, count / 2, piece - 2, piece - 1, piece, piece + 1, count - 2, count - 1],
    ]);
    await model.dispose();
  });

  it("is normal: mean 0, the deviation asked for, tails beyond four deviations as rare as they should be", async () => {
    const model = await bloom(10_000, 100, 1, 7);
    const { data } = await model.read("transformer.word_embeddings.weight");
    await model.dispose();
    const n = data.length; // 1,000,000: four standard errors are 0.004 of a deviation for the mean, 0.3% for the deviation
    const mean = data.reduce((sum, x) => sum + x, 0) / n;
    const root = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / n);
    expect(Math.abs(mean)).toBeLessThan(0.004 * deviation);
    expect(Math.abs(root / deviation - 1)).toBeLessThan(0.003);
    const far = data.filter((x) => Math.abs(x) > 4 * deviation).length; // 63 expected, ± 8
    expect(far).toBeGreaterThan(31);
    expect(far).toBeLessThan(95);
  });

  it("gives the same weights whatever the number of threads", () => {
    compile();
    const dir = mkdtempSync(join(tmpdir(), "polypaca-init-"));
    const weights = ["1", "3"].map((threads) => {
      const out = join(dir, threads);
      const shape = ["--arch", "llama", "--hidden", "48", "--layers", "2", "--heads", "3", "--seed", "8"];
      const { exitCode, stderr } = runCli(["init-model", ...shape, "--out", out], { OMP_NUM_THREADS: threads });
      expect(exitCode, stderr).toBe(0);
      return readFileSync(join(out, "model.safetensors"));
    });
    expect(weights[0]!.length).toBeGreaterThan(2 ** 16);
    expect(weights[0]!.equals(weights[1]!)).toBe(true);
  });
});
