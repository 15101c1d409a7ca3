import { describe, expect, it } from "vitest";
import type { Workload } from "../../src/budget/costs.js";
import { decoderSpecFromConfig } from "../../src/families/index.js";
import { adapterParameterCount, matmulParameters, parameterCount, studyLoraTargets } from "../../src/families/parameters.js";
import { presetConfig } from "../../src/families/presets.js";
import { forwardWork, trainingWork } from "../../src/families/work.js";
import { addWorkloads, conditionFiles, uniformWorkload } from "../../src/plan/condition-workloads.js";
import { type PlanJob, planGrid } from "../../src/plan/plan-grid.js";
import { type Rates, readMeasuredRates } from "../../src/plan/rates.js";
import { dataFile } from "../data/data-folder.js";
import { benchFile, type CaseFigures, hardware, recipe } from "./plan-cases.js";

const bloom = decoderSpecFromConfig(presetConfig("bloom-560m"), "bloom-560m");
const records = uniformWorkload({ records: 52_000, tokens: 200, targetTokens: 199 });

function job(method: "lora" | "fft", changes: Partial<PlanJob> = {}): PlanJob {
  const base = {
    name: `bloom ${method}`,
    model: "bloom-560m",
    spec: bloom,
    condition: null,
    language: null,
    validation: null,
    sameRunAs: null,
  };
  return { ...base, data: records, recipe: recipe(method), ...changes };
}

describe("a job's prediction", () => {
  it("has the steps, tokens and operations of paper-lora's 5 epochs on what is not held out", () => {
    const [plan] = planGrid([job("lora")], hardware()).jobs;
    expect(plan).toMatchObject({ examples: { data: 52_000, training: 51_000, validation: 1_000 }, stepsPerEpoch: 399, steps: 1_995 });
    expect(plan!.tokens).toBeCloseTo(5 * 51_000 * 200, 3);
    // DESIGN.md's count for LoRA, written out: 4P + 6 x adapter, and 12 x layers x hidden per attended key; 199 of 200 tokens have a target.
    const head = 250_880 * 1024;
    const adapter = adapterParameterCount(bloom, { rank: 8, targets: ["query_key_value"] });
    const perToken = 4 * (matmulParameters(bloom) - head) + 6 * adapter + (199 / 200) * 4 * head + 12 * 24 * 1024 * 100.5;
    expect(plan!.flops / (5 * 51_000 * 200 * perToken)).toBeCloseTo(1, 12);
    expect(plan).toMatchObject({ hours: null, cost: null, rate: null, fits: true });
  });

  it("counts ten evaluations of 1,000 records, each a forward pass", () => {
    const [plan] = planGrid([job("fft", { recipe: recipe("fft", { evalEvery: 60 }) })], hardware()).jobs;
    expect(plan!.steps).toBe(600);
    const tuning = { method: "fft", rank: 8, targets: studyLoraTargets(bloom) } as const;
    const { perToken, perTargetToken, perAttendedPair } = forwardWork(bloom, tuning);
    const record = 200 * perToken + 199 * perTargetToken + 20_100 * perAttendedPair;
    expect(plan!.evaluationFlops / (10 * 1_000 * record)).toBeCloseTo(1, 12);
    const training = trainingWork(bloom, tuning);
    expect([training.perToken, training.perTargetToken, training.perAttendedPair]).toEqual(
      [perToken, perTargetToken, perAttendedPair].map((forward) => 3 * forward),
    );
  });

  it("says what does not fit, and counts a run that two conditions share once", () => {
    const jobs = [job("fft", { name: "a" }), job("fft", { name: "b", sameRunAs: "a" }), job("lora", { name: "c" })];
    const rates: Rates = { kind: "flops", flopsPerSecond: { lora: 1e12, fft: 2e12 }, description: "given" };
    const { jobs: plans, total, tooLarge } = planGrid(jobs, hardware({ memoryBytes: 4 * 2 ** 30, rates, pricePerHour: 2 }));
    expect(tooLarge).toEqual(["a", "b"]);
    expect(plans.map(({ fits }) => fits)).toEqual([false, false, true]);
    expect(total.runs).toBe(2);
    expect(total.hours).toBeCloseTo(plans[0]!.hours! + plans[2]!.hours!, 9);
    expect(total.cost).toBeCloseTo(2 * total.hours!, 9);
    const { flops, evaluationFlops, hours } = plans[2]!;
    expect(hours).toBeCloseTo((flops + evaluationFlops) / 1e12 / 3600, 9);
  });

  it("takes the largest micro-batch that fits, and the least where none does", () => {
    const tokensWith = (memoryBytes: number): number => planGrid([job("lora")], hardware({ memoryBytes })).jobs[0]!.microBatchTokens;
    expect(tokensWith(64 * 2 ** 30)).toBe(2_048);
    const least = planGrid([job("lora", { recipe: recipe("lora", { microBatchTokens: 512 }) })], hardware()).jobs[0]!.memory.total;
    expect(tokensWith(least + 50 * 2 ** 20)).toBeLessThan(2_048);
    expect(tokensWith(1)).toBe(512);
  });

  it("differs with optimiser and recomputation among jobs of one model", () => {
    const usual = job("fft", { name: "usual" });
    const narrow = job("fft", { name: "8 bits", recipe: recipe("fft", { optimizer: "adamw8bit" }) });
    const again = job("fft", { name: "recomputed", recipe: recipe("fft", { recompute: "block" }) });
    const [plain, eight, recomputed] = planGrid([usual, narrow, again], hardware()).jobs.map(({ memory }) => memory);
    expect(eight!.optimizer).toBeLessThan(plain!.optimizer / 2);
    expect(recomputed!.activations).toBeLessThan(plain!.activations);
  });

  it("trains on all of the data where validation data is given apart, and evaluates that", () => {
    const validation = uniformWorkload({ records: 300, tokens: 100, targetTokens: 99 });
    const apart = planGrid([job("lora", { validation })], hardware()).jobs[0]!;
    expect(apart).toMatchObject({ examples: { training: 52_000, validation: 300 }, stepsPerEpoch: 407 });
    const none = planGrid([job("lora", { recipe: recipe("lora", { validationSize: 0 }) })], hardware()).jobs[0]!;
    expect(none).toMatchObject({ flops: apart.flops, evaluationFlops: 0, examples: { training: 52_000, validation: 0 } });
    expect(apart.evaluationFlops).toBeGreaterThan(0);
  });

  it("refuses a validation set larger than half the data, as train does", () => {
    const small = uniformWorkload({ records: 1_500, tokens: 10, targetTokens: 9 });
    expect(() => planGrid([job("lora", { data: small })], hardware())).toThrow(
      /bloom lora: --validation-size 1000 is more than half of its 1500/,
    );
  });
});

describe("rates", () => {
  const size = parameterCount(bloom);
  const small: CaseFigures = {
    ...{ name: "small", arch: "gpt_neox", method: "fft", parameters: 1e8, trainableParameters: 1e8, flopsPerToken: 6e8 },
    ...{ stepSeconds: 1.2, optimizerSeconds: 0.2 },
  };
  const own: CaseFigures = {
    ...small,
    name: "bloom-560m",
    arch: "bloom",
    parameters: size,
    trainableParameters: size,
    flopsPerToken: 3e9,
    stepSeconds: 7,
    optimizerSeconds: 1,
  };
  const ratesOf = async (cases: readonly CaseFigures[]): Promise<Rates> =>
    readMeasuredRates([await dataFile("bench.json", benchFile(cases))]);

  it("of a model that was measured are its own, the update counted per step", async () => {
    const { hours, rate, flops, evaluationFlops, steps } = planGrid([job("fft")], hardware({ rates: await ratesOf([small, own]) }))
      .jobs[0]!;
    expect(rate).toEqual({ flopsPerSecond: (3e9 * 1000) / 6, optimizerSeconds: 1, source: "measured", sizeRatio: 1 });
    expect(hours).toBeCloseTo(((flops + evaluationFlops) / 5e11 + steps) / 3600, 9);
  });

  it("of others come from the nearest size of the method, and say so", async () => {
    const large = { ...own, name: "llama-7b", arch: "llama", parameters: 7e9, trainableParameters: 7e9 };
    const lora = { ...small, name: "lora", method: "lora" as const, parameters: 1.01e8, trainableParameters: 1e6 };
    const { rate } = planGrid([job("fft")], hardware({ rates: await ratesOf([large, lora, small]) })).jobs[0]!;
    expect(rate).toMatchObject({ source: "from small's utilisation (75%)", flopsPerSecond: 6e11, sizeRatio: size / 1e8 });
    expect(rate!.optimizerSeconds).toBeCloseTo((0.2 * size) / 1e8, 9);
  });

  it("of two models of the same size come from the one of the same family", async () => {
    const twin = { ...small, name: "twin", arch: "llama", parameters: 1e9, trainableParameters: 1e9 };
    const { rate } = planGrid([job("fft")], hardware({ rates: await ratesOf([twin, { ...twin, name: "kin", arch: "bloom" }]) })).jobs[0]!;
    expect(rate!.source).toMatch(/^from kin's utilisation/);
  });

  it("in tokens per second give hours by tokens alone, evaluations at the same work per second", () => {
    const rates: Rates = { kind: "tokens", tokensPerSecond: 1_000 };
    const { hours, tokens, flops, evaluationFlops } = planGrid([job("lora")], hardware({ rates })).jobs[0]!;
    expect(hours).toBeCloseTo((tokens / 1_000 / 3600) * (1 + evaluationFlops / flops), 9);
  });

  it("are refused where the file has none of the method and type, is of another machine, or is no bench result", async () => {
    const rates = await ratesOf([small]);
    expect(() => planGrid([job("lora")], hardware({ rates }))).toThrow(/has no lora case in bf16\. Measure one/);
    expect(() => planGrid([job("fft")], hardware({ rates, dtype: "fp32" }))).toThrow(/has no fft case in fp32/);
    const [here, there] = [await dataFile("a.json", benchFile([small])), await dataFile("b.json", benchFile([small], { threads: 64 }))];
    await expect(readMeasuredRates([here, there])).rejects.toThrow(
      /is of A CPU, 2 threads, .* of A CPU, 64 threads\. Plan for one at a time/,
    );
    await expect(readMeasuredRates([await dataFile("c.json", { cases: [] })])).rejects.toThrow(
      /^--bench .*not a file that polypaca bench --save wrote/,
    );
  });
});

describe("the conditions' files", () => {
  const work = trainingWork(bloom, { method: "lora", rank: 8, targets: studyLoraTargets(bloom) });
  const language = (code: string, tokens: number, count: number) => {
    return { language: code, workload: uniformWorkload({ records: count, tokens, targetTokens: tokens - 1 }) };
  };
  const languages = [language("en", 150, 101), language("fi", 260, 100), language("zh", 310, 99)];
  const sum = (workloads: readonly { readonly workload: Workload }[]): Workload => addWorkloads(workloads.map(({ workload }) => workload));

  it.each(["examples", "tokens", "flops"] as const)("cost N x C, N x C, C and C in %s with English matched", (unit) => {
    const files = (condition: Parameters<typeof conditionFiles>[0]) =>
      conditionFiles(condition, languages, { unit, matchBudget: true, work });
    const inUnit = ({ examples, tokens, targetTokens, attendedPairs }: Workload): number =>
      unit === "examples"
        ? examples
        : unit === "tokens"
          ? tokens
          : tokens * work.perToken + targetTokens * work.perTargetToken + attendedPairs * work.perAttendedPair;
    const total = inUnit(sum(languages));
    expect(files("monolingual").map(({ language: code }) => code)).toEqual(["en", "fi", "zh"]);
    expect(inUnit(sum(files("monolingual")))).toBe(total);
    expect(inUnit(sum(files("multilingual")))).toBe(total);
    expect(inUnit(sum(files("english"))) / (total / 3)).toBeCloseTo(1, 12);
    expect(inUnit(sum(files("downsampled"))) / (total / 3)).toBeCloseTo(1, 12);
  });

  it("leave English as it is unless it is to be matched, and have no English file without English", () => {
    const rule = { unit: "tokens", matchBudget: false, work } as const;
    expect(conditionFiles("english", languages, rule)).toEqual([languages[0]]);
    expect(conditionFiles("english", languages.slice(1), rule)).toEqual([]);
  });
});
