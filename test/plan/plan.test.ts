/** A plan over real data, against what mix writes and what a dry run of train says. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mix } from "../../src/budget/mix.js";
import { conditions } from "../../src/budget/mix-settings.js";
import { plan } from "../../src/plan/plan.js";
import type { PlanSettings } from "../../src/plan/plan-settings.js";
import { train } from "../../src/train/train.js";
import { sampleDir, temporaryFolder } from "../data/data-folder.js";
import { makeTinyModel, quietEnvironment, tinySettings } from "../train/tiny-run.js";

const assumed = {
  models: ["bloom-560m"],
  tokensPerRecord: 200,
  responseTokensPerRecord: 90,
  device: "cpu",
  deviceMemoryBytes: 2 ** 36,
} as const;

describe("a plan", () => {
  it("of data counts what mix counts, for each condition in examples, tokens and FLOPs", async () => {
    const folder = await temporaryFolder();
    const model = await makeTinyModel(join(folder, "model"));
    const shared = { dataDir: sampleDir, languages: ["en", "fi", "ru"], model, method: "fft" } as const;
    const { budgets } = await plan({
      ...{ models: [model], methods: ["fft"], dataDir: sampleDir, languages: shared.languages, device: "cpu", dtype: "fp32" },
      recipe: { validationSize: 10 },
    });
    expect(budgets).toHaveLength(1);
    for (const condition of conditions) {
      const { cost, budget } = await mix({ ...shared, condition, out: join(folder, condition) });
      const planned = budgets[0]!.conditions.find((one) => one.condition === condition)!;
      expect(budgets[0]!.perLanguage).toEqual(budget.perLanguage);
      if (condition !== "downsampled") expect(planned.data).toEqual(cost);
      // A drawn sample of 60 records costs a few percent more or less than the expected one.
      expect(planned.data.examples).toBe(cost.examples);
      expect(Math.abs(planned.data.tokens! / cost.tokens! - 1)).toBeLessThan(0.1);
      const times = planned.budget === "C" ? 1 : 3;
      expect(planned.dataDeviation.tokens).toBeCloseTo(planned.data.tokens! / (times * budget.perLanguage.tokens!) - 1, 12);
    }
  });

  it("of a run is what its dry run says: steps, tokens, micro-batch and memory", async () => {
    const folder = await temporaryFolder();
    const model = await makeTinyModel(join(folder, "model"), "llama");
    const changes = { method: "fft", validationSize: 0, maxSteps: null, epochs: 2, microBatchTokens: null, dryRun: true } as const;
    const settings = tinySettings(model, join(folder, "run"), changes);
    const result = await train({ ...settings, trainOn: "response" }, quietEnvironment());
    if (result.kind !== "preview") throw new Error("unreachable");
    const { batchSize, cutoff } = settings;
    const { jobs } = await plan({
      ...{
        models: [model],
        methods: ["fft"],
        conditions: ["english"],
        languages: ["en"],
        dataDir: sampleDir,
        device: "cpu",
        dtype: "fp32",
      },
      recipe: { validationSize: 0, epochs: 2, batchSize, cutoff, trainOn: "response", template: settings.template },
    });
    const { preview } = result;
    expect(jobs).toHaveLength(1);
    expect(jobs[0]).toMatchObject({ steps: preview.steps, stepsPerEpoch: preview.stepsPerEpoch, memory: preview.memory });
    expect(jobs[0]!.microBatchTokens).toBe(preview.microBatchTokens);
    expect(jobs[0]!.tokens).toBe(2 * preview.tokens);
  });

  it("of the study, whose data is not at hand, has its nine languages of 52,000 records, and one English run", async () => {
    const { jobs, total, budgets, languages, notes } = await plan({ ...assumed, methods: ["lora"] });
    expect(languages).toEqual(["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"]);
    expect(jobs.map(({ condition }) => condition)).toEqual([...Array(9).fill("monolingual"), "multilingual", "english", "downsampled"]);
    expect(jobs.find(({ condition }) => condition === "english")).toMatchObject({ sameRunAs: "bloom-560m lora monolingual en" });
    expect(total.runs).toBe(11);
    const training = Object.fromEntries(
      budgets[0]!.conditions.map(({ condition, trainingDeviation }) => [condition, trainingDeviation.examples]),
    );
    // Nine runs hold out 9,000 records, one run 1,000.
    expect(training).toEqual({ monolingual: 0, multilingual: 467 / 459 - 1, english: 0, downsampled: 0 });
    expect(notes).toContain("attention is counted as if every record had the mean number of tokens");
  });

  it("shows how far English is from C where languages cost differently, and matches it where asked", async () => {
    const tokensPerRecord = { en: 100, fi: 200, zh: 300 };
    const settings = { ...assumed, methods: ["lora"], languages: ["zh", "en", "fi"], tokensPerRecord } as const;
    const english = async (more: Partial<PlanSettings>) => {
      const { budgets, jobs } = await plan({ ...settings, ...more });
      const { dataDeviation, data } = budgets[0]!.conditions.find(({ condition }) => condition === "english")!;
      return { dataDeviation, data, job: jobs.find(({ condition }) => condition === "english")! };
    };
    const plain = await english({});
    expect(plain.dataDeviation).toMatchObject({ examples: 0, tokens: -0.5 });
    expect(plain.job.sameRunAs).toBe("bloom-560m lora monolingual en");
    const matched = await english({ budget: "tokens", matchBudget: true });
    expect(matched.dataDeviation).toMatchObject({ examples: 1, tokens: 0 });
    expect(matched.job.sameRunAs).toBeNull();
  });

  it.each<[Partial<PlanSettings>, RegExp]>([
    [{ tokensPerRecord: undefined }, /how long are the records\? Give --data-dir and --tokenizer/],
    [{ responseTokensPerRecord: undefined }, /--response-tokens-per-record X, or --data-dir/],
    [{ responseTokensPerRecord: 200 }, /--response-tokens-per-record 200: not fewer than the record's 200/],
    [{ tokensPerRecord: 600 }, /--tokens-per-record 600: above the cutoff of 512 tokens/],
    [{ tokensPerRecord: { en: 5 } }, /--tokens-per-record: says nothing about bg\. Add bg=X/],
    [{ models: ["bloom-9b"] }, /--model bloom-9b: no such folder, and no published model of that name \(bloom-560m/],
    [{ models: ["bloom-3b", "bloom-3b"] }, /--model bloom-3b: is named twice/],
    [{ tflops: 100 }, /--tflops and --utilization: .*each needs the other/],
    [{ tflops: 100, utilization: { lora: 0.5 } }, /--utilization: says nothing about fft/],
    [{ tflops: 100, utilization: 60 }, /--utilization 60: expected a share of the peak/],
    [{ tokensPerSecond: 5, bench: ["x.json"] }, /--bench and --tokens-per-second: both say how fast/],
    [{ tokensPerSecond: 5 }, /--tokens-per-second 5: is the rate of one model and method/],
    [{ pricePerHour: 5 }, /--price-per-hour: without a rate no hours/],
    [{ tokenizer: "x" }, /--tokenizer x: has nothing to count without --data-dir/],
    [{ dataDir: sampleDir }, /--tokens-per-record: the records of --data-dir .* are counted/],
    [
      { dataDir: sampleDir, tokensPerRecord: undefined, responseTokensPerRecord: undefined },
      /bloom-560m is a published shape without files.*Give --tokenizer/,
    ],
    [{ conditions: ["english"], languages: ["fi", "zh"] }, /English \(en\) is not among the languages \(fi,zh\)/],
    [{ recipe: { validationSize: 30_000 } }, /--validation-size 30000 is more than half of its 52000 records/],
    [{ recipe: { epochs: -1 } }, /^--epochs: /],
    [{ device: "cuda", dtype: "fp32" }, /--dtype fp32 with cuda/],
    [{ bench: ["/nowhere.json"] }, /--bench \/nowhere\.json: .*Make it with polypaca bench --save/],
  ])("is refused for %o, saying what is needed", async (changes, message) => {
    await expect(plan({ ...assumed, ...changes })).rejects.toThrow(message);
  });
});
