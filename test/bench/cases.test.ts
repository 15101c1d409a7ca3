import { describe, expect, it } from "vitest";
import { benchCases, benchShapes, stepSequences, usualShapes } from "../../src/bench/cases.js";
import { scoredTokens, syntheticBatch } from "../../src/bench/live-case.js";
import { groupByMemory, planCases } from "../../src/bench/memory-fit.js";
import { parseSweep, sweptCases } from "../../src/bench/sweep.js";
import type { Addon } from "../../src/native/addon-types.js";
import { noShapeFlags } from "./shapes.js";

const caseFlags = { methods: ["lora", "fft"], dtypes: ["bf16"], device: "cpu", loraRank: 8, loraDropout: 0.05 } as const;

describe("shapes and cases", () => {
  it("are BLOOM, GPT-NeoX and LLaMA, both methods beside each other, without flags", () => {
    const cases = benchCases(benchShapes(noShapeFlags), { ...caseFlags, dtypes: ["bf16", "fp32"] });
    const [first, second] = cases;
    expect(cases).toHaveLength(12);
    expect(new Set(cases.map(({ shape }) => shape.spec.modelType))).toEqual(new Set(["bloom", "gpt_neox", "llama"]));
    expect([first!.method, second!.method]).toEqual(["lora", "fft"]);
    expect(new Set(cases.map(({ key }) => key)).size).toBe(12);
  });

  it("a hidden size brings heads and MLP width of its own, a published shape keeps the rest", () => {
    const { spec } = benchShapes({ ...noShapeFlags, archs: ["pythia"], hidden: 192 })[0]!;
    expect(spec).toMatchObject({ modelType: "gpt_neox", hiddenSize: 192, heads: 3, intermediateSize: 768 });
    const preset = benchShapes({ ...noShapeFlags, presets: ["bloom-560m"], layers: 2 })[0]!;
    expect(preset).toMatchObject({ name: "bloom-560m", spec: { hiddenSize: 1024, layers: 2, vocabSize: 250_880 } });
  });

  it("takes sequences longer than a published limit of positions", () => {
    expect(benchShapes({ ...noShapeFlags, archs: ["llama"], seq: 4096 })[0]!.spec.maxPositions).toBe(4096);
  });

  it("LoRA trains the adapters alone", () => {
    const [lora, fft] = benchCases(benchShapes({ ...noShapeFlags, archs: ["bloom"] }), caseFlags);
    expect(lora).toMatchObject({ trainableParameters: 98_304, parameters: fft!.parameters + 98_304 });
    expect(fft!.trainableParameters).toBe(fft!.parameters);
  });

  it("refuses architectures and presets it does not know, and a preset of another architecture", () => {
    const refused = (flags: object, message: string) =>
      expect(() => benchShapes({ ...noShapeFlags, ...flags })).toThrow(
        expect.objectContaining({ code: "USAGE", message: expect.stringContaining(message) }),
      );
    refused({ archs: ["gpt2"] }, "--arch gpt2");
    refused({ presets: ["gpt2"] }, "--preset gpt2");
    refused({ presets: ["bloom-560m"], archs: ["llama"] }, "is bloom");
  });
});

describe("what is measured without flags", () => {
  it("on a GPU is six published models at the study's context length", () => {
    const { presets, seq, microBatch } = usualShapes("cuda");
    const shapes = benchShapes({ ...noShapeFlags, presets, seq, microBatch });
    expect(shapes.map(({ name }) => name)).toEqual(["bloom-560m", "bloom-1b7", "bloom-7b1", "pythia-1.4b", "llama-7b", "baichuan2-7b"]);
    for (const { sequenceLength } of shapes) expect(sequenceLength).toBe(512);
  });

  it("on the CPU is no published model", () => {
    expect(usualShapes("cpu")).toEqual({ presets: null, seq: noShapeFlags.seq, microBatch: noShapeFlags.microBatch });
  });
});

describe("packed rows", () => {
  const packed = (seq: number, sequenceLength: number, microBatch: number) =>
    benchShapes({ ...noShapeFlags, archs: ["bloom"], seq, sequenceLength, microBatch })[0]!;

  it("hold as many sequences as fit and a shorter one in what is left, each row by itself", () => {
    expect(stepSequences(packed(10, 4, 2))).toEqual([4, 4, 2, 4, 4, 2]);
    expect(stepSequences(packed(8, 8, 3))).toEqual([8, 8, 8]);
    const { inputIds, sequenceLengths } = syntheticBatch(100, stepSequences(packed(10, 4, 2)), 0);
    expect([inputIds.length, [...sequenceLengths]]).toEqual([20, [4, 4, 2, 4, 4, 2]]);
    expect(scoredTokens(packed(10, 4, 2))).toBe(20 - 6);
  });

  it("are told apart from rows of one sequence, which are described as ever", () => {
    expect(packed(256, 64, 4).description).toMatch(/, 4 x 256 tokens in sequences of 64$/);
    expect(packed(256, 256, 4)).toEqual(benchShapes({ ...noShapeFlags, archs: ["bloom"] })[0]);
  });

  it("refuse a sequence that is longer than the row", () => {
    expect(() => packed(256, 257, 4)).toThrow(
      expect.objectContaining({ code: "USAGE", message: expect.stringMatching(/^--sequence-length 257: does not fit into a row of 256/) }),
    );
  });
});

describe("sweeps", () => {
  it("read a parameter, with values of their own or given ones in order", () => {
    expect(parseSweep("seq=512,128,128")).toEqual({ parameter: "seq", values: [128, 512] });
    expect(parseSweep("rank").values.length).toBeGreaterThan(2);
    for (const text of ["width", "seq=", "seq=1,x", "seq=0", "seq=1=2"]) expect(() => parseSweep(text), text).toThrow(/^--sweep/);
  });

  it("of the length keep the number of tokens of a step, down to one sequence", () => {
    const swept = sweptCases({ parameter: "seq", values: [128, 512, 4096] }, noShapeFlags, { ...caseFlags, methods: ["fft"] });
    expect(swept.map(({ benchCase: { shape } }) => [shape.sequenceLength, shape.microBatch])).toEqual([
      [128, 8],
      [512, 2],
      [4096, 1],
    ]);
  });

  it("of the row length keep the sequences packed into them", () => {
    const flags = { ...noShapeFlags, sequenceLength: 128 };
    const swept = sweptCases({ parameter: "seq", values: [128, 512, 4096] }, flags, { ...caseFlags, methods: ["fft"] });
    expect(swept.map(({ benchCase: { shape } }) => [shape.rowTokens, shape.microBatch])).toEqual([
      [128, 8],
      [512, 2],
      [4096, 1],
    ]);
    for (const { benchCase } of swept) expect(new Set(stepSequences(benchCase.shape))).toEqual(new Set([128]));
    expect(() => sweptCases({ parameter: "seq", values: [64, 128] }, flags, caseFlags)).toThrow(/--sequence-length 128: .*row of 64/);
  });

  it("of the rank measure FFT once, which has none", () => {
    const swept = sweptCases({ parameter: "rank", values: [2, 8, 32] }, noShapeFlags, caseFlags);
    expect(swept.filter(({ benchCase }) => benchCase.method === "fft")).toHaveLength(1);
    expect(swept.filter(({ benchCase }) => benchCase.method === "lora").map(({ benchCase }) => benchCase.lora.rank)).toEqual([2, 8, 32]);
  });
});

describe("memory", () => {
  const cases = benchCases(benchShapes({ ...noShapeFlags, archs: ["bloom", "llama"] }), caseFlags);
  /** Plans that need `bytes[method]`, on a machine that has `available`. */
  const addonWith = (available: number, bytes: { readonly lora: number; readonly fft: number }): Addon => {
    const planMemory: Addon["planMemory"] = (_spec, lora) => {
      const total = lora ? bytes.lora : bytes.fft;
      return { weights: total, gradients: 0, optimizer: 0, activations: 0, head: 0, scratch: 0, total };
    };
    return { planMemory, memoryUsage: () => ({ available, resident: 0, peakResident: 0 }) } as unknown as Addon;
  };

  it("refuses what does not fit, naming cases and figures, and says that LoRA would", () => {
    const plan = (): unknown => planCases(addonWith(100 * 2 ** 20, { lora: 50 * 2 ** 20, fft: 200 * 2 ** 20 }), cases);
    expect(plan).toThrow(expect.objectContaining({ code: "OUT_OF_MEMORY" }));
    expect(plan).toThrow(/100 MiB are available[\s\S]*bloom.*FFT.*200 MiB[\s\S]*llama.*FFT.*200 MiB[\s\S]*--method lora/);
    expect(plan).not.toThrow(/LoRA rank 8.*MiB/);
  });

  it("of several models leaves out what does not fit, with figures, where it may, and refuses where nothing fits", () => {
    const addon = addonWith(100 * 2 ** 20, { lora: 50 * 2 ** 20, fft: 200 * 2 ** 20 });
    const { planned, leftOut } = planCases(addon, cases, true);
    expect(planned.map(({ benchCase }) => benchCase.method)).toEqual(["lora", "lora"]);
    expect(leftOut).toEqual([
      expect.stringMatching(/^bloom.*FFT.*: 200 MiB .*100 MiB are available$/),
      expect.stringMatching(/^llama.*FFT/),
    ]);
    expect(() => planCases(addonWith(1, { lora: 2, fft: 2 }), cases, true)).toThrow(expect.objectContaining({ code: "OUT_OF_MEMORY" }));
  });

  it("is asked for by the device's name", () => {
    const asked: (string | undefined)[] = [];
    const addon = addonWith(1000, { lora: 10, fft: 50 });
    const memoryUsage: Addon["memoryUsage"] = (device) => {
      asked.push(device);
      return { available: 1000, resident: 0, peakResident: 0 };
    };
    planCases({ ...addon, memoryUsage }, cases);
    planCases({ ...addon, memoryUsage }, benchCases(benchShapes(noShapeFlags), { ...caseFlags, device: "cuda:1" }));
    expect(asked).toEqual(["cpu", "cuda:1"]);
  });

  it("puts together what fits, and keeps LoRA beside FFT of the same model", () => {
    const { planned } = planCases(addonWith(1000, { lora: 10, fft: 50 }), cases);
    const sizes = (budget: number): number[] => groupByMemory(planned, budget).map((group) => group.length);
    expect(sizes(120)).toEqual([4]);
    expect(sizes(119)).toEqual([2, 2]);
    expect(sizes(59)).toEqual([1, 1, 1, 1]);
  });
});
