import { describe, expect, it } from "vitest";
import { type BenchShape, benchShapes, stepSequences } from "../../src/bench/cases.js";
import { kernelPlans } from "../../src/bench/kernels.js";
import { studyLoraTargets } from "../../src/families/parameters.js";
import { causalAttendedLength, flopsPerToken, type Method } from "../../src/families/work.js";
import { noShapeFlags } from "./shapes.js";

const bloom = benchShapes({ ...noShapeFlags, archs: ["bloom"] })[0]!;
const pythia = benchShapes({ ...noShapeFlags, presets: ["pythia-160m"] })[0]!;
const llama = benchShapes({
  ...noShapeFlags,
  ...{ archs: ["llama"], hidden: 768, layers: 8, heads: 12, kvHeads: 4, intermediate: 2048, vocab: 32_000 },
})[0]!;

function work(shape: BenchShape, method: Method, scoredShare = 1): number {
  const { spec } = shape;
  const meanAttendedLength = causalAttendedLength(stepSequences(shape));
  return flopsPerToken(spec, { method, rank: 8, targets: studyLoraTargets(spec), meanAttendedLength, scoredShare });
}

// Computed by hand from the shapes: P, then 6P or 4P + 6 x adapter parameters, then 12 x layers x hidden x 128.5.
describe("work per token", () => {
  it("BLOOM, hidden 512, 6 layers, vocabulary 32,000: P = 6 x 12 x 512² + 32,000 x 512, the tied head counts", () => {
    const P = 18_874_368 + 16_384_000;
    expect(work(bloom, "fft")).toBe(6 * P + 4_737_024);
    expect(work(bloom, "fft")).toBe(216_287_232);
    expect(work(bloom, "lora")).toBe(4 * P + 6 * 98_304 + 4_737_024);
    expect(work(bloom, "lora")).toBe(146_360_320);
  });

  it("Pythia-160M: the untied embedding is no work, the head is", () => {
    const P = 84_934_656 + 38_633_472;
    expect(work(pythia, "fft")).toBe(6 * P + 14_211_072);
    expect(work(pythia, "fft")).toBe(755_619_840);
    expect(work(pythia, "lora")).toBe(4 * P + 6 * 294_912 + 14_211_072);
    expect(work(pythia, "lora")).toBe(510_253_056);
  });

  it("LLaMA with 4 key/value heads of 12: smaller k and v, three matrices in the MLP, adapters on q, k and v", () => {
    const P = 50_331_648 + 24_576_000;
    expect(work(llama, "fft")).toBe(6 * P + 9_474_048);
    expect(work(llama, "fft")).toBe(458_919_936);
    expect(work(llama, "lora")).toBe(4 * P + 6 * 229_376 + 9_474_048);
    expect(work(llama, "lora")).toBe(310_480_896);
  });

  it("leaves out rows of the head that have no target", () => {
    const head = 32_000 * 512;
    expect(work(bloom, "fft") - work(bloom, "fft", 255 / 256)).toBeCloseTo((6 * head) / 256, 3);
    expect(work(bloom, "lora") - work(bloom, "lora", 255 / 256)).toBeCloseTo((4 * head) / 256, 3);
  });

  it("attends to half the sequence on average, oneself included", () => {
    expect(causalAttendedLength([1])).toBe(1);
    expect(causalAttendedLength([4])).toBe((1 + 2 + 3 + 4) / 4);
  });
});

describe("work of packed rows", () => {
  const packed = (seq: number, sequenceLength: number, microBatch: number): BenchShape =>
    benchShapes({ ...noShapeFlags, archs: ["bloom"], seq, sequenceLength, microBatch })[0]!;

  it("attends within each sequence alone, whatever the row holds", () => {
    expect(causalAttendedLength([3, 2])).toBe((1 + 2 + 3 + 1 + 2) / 5);
    for (const method of ["lora", "fft"] as const) {
      expect(work(packed(4096, 128, 1), method)).toBe(work(packed(128, 128, 8), method));
      expect(work(packed(4096, 4096, 1), method) - work(packed(4096, 128, 1), method)).toBe(12 * 6 * 512 * (2048.5 - 64.5));
    }
  });

  it("of attention's kernels counts the pairs within the sequences", () => {
    const flopsOf = (shape: BenchShape) =>
      kernelPlans(shape, "bf16", { rank: 8, dropout: 0 }).find(({ op }) => op === "attention_forward")!.flops;
    expect(flopsOf(packed(1024, 128, 1))).toBe(4 * 64 * 8 * (8 * ((128 * 129) / 2)));
    expect(flopsOf(packed(10, 4, 1))).toBe(4 * 64 * 8 * (10 + 10 + 3));
  });
});

describe("work of single kernels", () => {
  const plans = kernelPlans(bloom, "bf16", { rank: 8, dropout: 0.05 });
  const plan = (kernel: string) => plans.find((candidate) => candidate.kernel === kernel)!;

  it("a product does 2 N rows cols operations and touches each operand once", () => {
    const { flops, bytes, shape } = plan("linear_forward, MLP up");
    expect(shape).toMatchObject({ N: 1024, rows: 2048, cols: 512 });
    expect(flops).toBe(2 * 1024 * 2048 * 512);
    expect(bytes).toBe(2 * (1024 * 512 + 2048 * 512 + 1024 * 2048));
    expect(plan("linear_backward_weight, MLP up").bytes).toBe(2 * (1024 * 512 + 1024 * 2048) + 4 * 2048 * 512);
  });

  it("the products of forward and backward over all layers, with the head, are 6P", () => {
    const blocks = ["qkv", "attention output", "MLP up", "MLP down"];
    const kinds = ["linear_forward", "linear_backward_input", "linear_backward_weight"];
    const sum = kinds.flatMap((kind) => blocks.map((block) => plan(`${kind}, ${block}`).flops)).reduce((a, b) => a + b, 0);
    expect((6 * sum) / 1024).toBe(6 * 18_874_368);
  });

  it("attention over all layers is 12 x layers x hidden x mean attended length", () => {
    const sum = plan("attention_forward").flops + plan("attention_backward").flops;
    expect((6 * sum) / 1024).toBe(12 * 6 * 512 * 128.5);
  });

  it("AdamW moves 28 bytes per value, masters as halves or whole", () => {
    const { bytes, shape } = plan("adamw");
    expect(bytes).toBe(28 * shape.count!);
    const plain = kernelPlans(bloom, "fp32", { rank: 8, dropout: 0 }).find(({ op }) => op === "adamw")!;
    expect(plain.bytes).toBe(28 * plain.shape.count!);
  });
});
