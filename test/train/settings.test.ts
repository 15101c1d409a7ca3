import { describe, expect, it } from "vitest";
import { flagOf } from "../../src/settings/check-settings.js";
import { parseConfig } from "../../src/settings/config-file.js";
import { nearestName } from "../../src/settings/nearest-name.js";
import { trainPresets } from "../../src/train/presets.js";
import { resolveSettings } from "../../src/train/resolve-settings.js";
import { checkSomeSettings, type SomeSettings, trainSettingsSchema } from "../../src/train/settings.js";

const required = { model: "m", data: ["d.json"], out: "o" };

function configError(text: string): string {
  try {
    parseConfig(text, "run.yaml", checkSomeSettings);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("accepted");
}

describe("presets", () => {
  it.each(Object.values(trainPresets))("$name is a complete and valid set of settings", (preset) => {
    const settings = { ...preset.values, ...required, preset: preset.name };
    expect(trainSettingsSchema.parse(settings)).toEqual(settings);
  });

  it("paper-lora has the study's LoRA values", () => {
    expect(resolveSettings({}, { ...required, preset: "paper-lora" })).toMatchObject({
      method: "lora",
      loraRank: 8,
      loraAlpha: 16,
      loraDropout: 0.05,
      learningRate: 3e-4,
      batchSize: 128,
      epochs: 5,
      cutoff: 512,
      warmupSteps: 100,
      scheduler: "linear",
      trainOn: "prompt+response",
      validationSize: 1000,
      seed: 42,
      evalEvery: 200,
      saveEvery: 200,
      weightDecay: 0,
      maxGradNorm: 1,
    });
  });

  it("paper-fft has the study's FFT values, and marks what is assumed", () => {
    expect(resolveSettings({}, { ...required, method: "fft" })).toMatchObject({
      preset: "paper-fft",
      learningRate: 2e-5,
      epochs: 3,
      batchSize: 256,
      cutoff: 512,
      trainOn: "response",
      warmupSteps: "3%",
      scheduler: "cosine",
    });
    expect(trainPresets["paper-fft"].assumed).toEqual(expect.arrayContaining(["warmupSteps", "scheduler", "validationSize", "evalEvery"]));
  });
});

describe("resolveSettings", () => {
  it("lets the file override the preset and the command line override both", () => {
    const file: SomeSettings = { ...required, method: "lora", learningRate: 1e-3, batchSize: 8 };
    expect(resolveSettings(file, { batchSize: 4 })).toMatchObject({ learningRate: 1e-3, batchSize: 4, loraRank: 8 });
  });

  it("keeps a method given beside a preset of the other method", () => {
    expect(resolveSettings({}, { ...required, method: "fft", preset: "paper-lora" })).toMatchObject({ method: "fft", learningRate: 3e-4 });
  });

  it.each([
    [{ ...required }, "USAGE", "--method"],
    [{ model: "m", out: "o", method: "lora" }, "USAGE", "--data is required"],
    [{ ...required, method: "lora", microBatchTokens: 256 }, "USAGE", "--micro-batch-tokens 256 cannot hold an example of --cutoff 512"],
    [{ ...required, method: "lora", device: "cuda:1", dtype: "fp32" }, "USAGE", "CUDA trains in bf16 only"],
    [{ ...required, method: "lora", earlyStopping: 2, validationSize: 0 }, "USAGE", "--early-stopping needs validation data"],
  ] satisfies [SomeSettings, string, string][])("refuses %o with %s", (settings, code, message) => {
    expect(() => resolveSettings({}, settings)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  });

  it.each([
    [{ learningRate: -1 }, "learningRate"],
    [{ batchSize: 1.5 }, "batchSize"],
    [{ loraDropout: 1 }, "loraDropout"],
    [{ warmupSteps: "3 percent" }, "warmupSteps"],
    [{ device: "tpu" }, "device"],
    [{ scheduler: "step" }, "scheduler"],
  ])("finds the wrong value in %o", (settings, name) => {
    const checked = checkSomeSettings(settings);
    expect("issues" in checked && checked.issues.map((issue) => issue.path[0])).toEqual([name]);
  });
});

describe("parseConfig", () => {
  it("reads camelCase settings, numbers in scientific notation and on/off as words", () => {
    const text = "method: lora\nlearningRate: 3e-4 # the study's\npacking: on\ndata: [a.json, b.json]\nwarmupSteps: 3%\nmaxSteps: null\n";
    expect(parseConfig(text, "run.yaml", checkSomeSettings)).toEqual({
      method: "lora",
      learningRate: 3e-4,
      packing: "on",
      data: ["a.json", "b.json"],
      warmupSteps: "3%",
      maxSteps: null,
    });
  });

  it("takes an empty file as no settings", () => {
    expect(parseConfig("# nothing yet\n", "run.yaml", checkSomeSettings)).toEqual({});
  });

  it("names file, line and column of a typo and what was probably meant", () => {
    expect(configError("method: lora\n\nlerningRate: 3e-4\n")).toBe(
      'run.yaml:3:1: there is no setting "lerningRate"; did you mean "learningRate"?',
    );
  });

  it("takes kebab-case and snake_case for typos of camelCase", () => {
    expect(configError("batch-size: 4\n")).toContain('run.yaml:1:1: there is no setting "batch-size"; did you mean "batchSize"?');
    expect(configError("lora_rank: 4\n")).toContain('did you mean "loraRank"?');
  });

  it("suggests nothing where nothing is near", () => {
    expect(configError("quantum: 1\n")).toBe('run.yaml:1:1: there is no setting "quantum"');
  });

  it("points at a wrong value, inside a list too, and reports every error", () => {
    const message = configError("learningRate: fast\ndata:\n  - a.json\n  - 7\n");
    expect(message).toContain('run.yaml:1:15: "learningRate": ');
    expect(message).toContain('run.yaml:4:5: "data.1": ');
  });

  it("names the line of broken YAML, of a key given twice and of a root that is no map", () => {
    expect(configError("method: lora\ndata: [a.json\n")).toMatch(/^run\.yaml:3:1: /);
    expect(configError("seed: 1\nseed: 2\n")).toMatch(/^run\.yaml:2:1: .*unique/);
    expect(configError("- method\n")).toMatch(/^run\.yaml:1:1: expected settings/);
  });
});

describe("nearestName", () => {
  it("forgives swaps, missing letters and case, but not another word", () => {
    expect(nearestName("eopchs", ["epochs", "cutoff"])).toBe("epochs");
    expect(nearestName("DATA", ["data"])).toBe("data");
    expect(nearestName("lr", ["learningRate", "seed"])).toBeNull();
  });
});

describe("flagOf", () => {
  it("writes a setting as its flag", () => {
    expect(flagOf("microBatchTokens")).toBe("--micro-batch-tokens");
  });
});
