import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors.js";
import { configFromShape, decoderSpecFromConfig } from "../../src/families/index.js";
import {
  adapterParameterCount,
  adapterTensors,
  expectedTensors,
  loraTargets,
  matmulParameters,
  parameterCount,
  studyLoraTargets,
  targetedModules,
} from "../../src/families/parameters.js";
import { type ModelPresetName, modelPresetNames, presetConfig } from "../../src/families/presets.js";

const goldens = fileURLToPath(new URL("../goldens/", import.meta.url));
const cases = readdirSync(goldens).filter((name) => /^\d/.test(name));
const goldenSpec = (name: string) => decoderSpecFromConfig(JSON.parse(readFileSync(`${goldens}${name}/config.json`, "utf8")), name);
const presetSpec = (name: ModelPresetName) => decoderSpecFromConfig(presetConfig(name), name);

/** Totals published on the models' cards, or counted from the published checkpoints. */
const publishedParameters: Readonly<Record<ModelPresetName, number>> = {
  "bloom-560m": 559_214_592,
  "bloom-1b1": 1_065_314_304,
  "bloom-1b7": 1_722_408_960,
  "bloom-3b": 3_002_557_440,
  "bloom-7b1": 7_069_016_064,
  "pythia-70m": 70_426_624,
  "pythia-160m": 162_322_944,
  "pythia-410m": 405_334_016,
  "pythia-1b": 1_011_781_632,
  "pythia-1.4b": 1_414_647_808,
  "pythia-2.8b": 2_775_208_960,
  "pythia-6.9b": 6_857_302_016,
  "pythia-12b": 11_846_072_320,
  "llama-7b": 6_738_415_616,
  "llama-13b": 13_015_864_320,
  "open-llama-3b": 3_426_473_600,
  "open-llama-7b": 6_738_415_616,
  "open-llama-13b": 13_015_864_320,
  "baichuan2-7b": 7_505_973_248,
  "baichuan2-13b": 13_896_668_160,
};

describe("expectedTensors", () => {
  it.each(cases)("names the tensors of %s and their shapes, no more and no fewer", async (name) => {
    const { sources } = await readSafetensors(`${goldens}${name}/model.safetensors`);
    const stored = new Map(sources.map((source) => [source.name, source.shape]));
    expect(new Map(expectedTensors(goldenSpec(name)).map(({ name, shape }) => [name, shape]))).toEqual(stored);
  });

  it("has biases for LLaMA's attention and MLP where the config says so", () => {
    const config = {
      ...configFromShape("llama", { hidden: 64, layers: 1, heads: 4, kvHeads: 2, vocab: 10 }),
      attention_bias: true,
      mlp_bias: true,
    };
    const names = expectedTensors(decoderSpecFromConfig(config, "config.json")).filter(({ name }) => name.endsWith(".bias"));
    expect(names).toEqual([
      { name: "model.layers.0.self_attn.q_proj.bias", shape: [64] },
      { name: "model.layers.0.self_attn.k_proj.bias", shape: [32] },
      { name: "model.layers.0.self_attn.v_proj.bias", shape: [32] },
      { name: "model.layers.0.self_attn.o_proj.bias", shape: [64] },
      { name: "model.layers.0.mlp.gate_proj.bias", shape: [256] },
      { name: "model.layers.0.mlp.up_proj.bias", shape: [256] },
      { name: "model.layers.0.mlp.down_proj.bias", shape: [64] },
    ]);
  });
});

describe("counts", () => {
  it.each(modelPresetNames)("%s has the published number of parameters", (name) => {
    expect(parameterCount(presetSpec(name))).toBe(publishedParameters[name]);
  });

  it("matmulParameters leaves out the look-up, norms and biases, and counts the head, tied or not", () => {
    const C = 64;
    const block = 12 * C * C;
    expect(matmulParameters(goldenSpec("01-bloom-h4"))).toBe(2 * block + 272 * C);
    expect(matmulParameters(goldenSpec("05-llama-mha"))).toBe(2 * (4 * C * C + 3 * C * 112) + 320 * C);
  });

  it("an adapter has rank x (in + out) parameters per module", () => {
    const spec = goldenSpec("06-llama-gqa");
    expect(adapterParameterCount(spec, { rank: 4, targets: ["q_proj", "v_proj"] })).toBe(2 * 4 * (64 + 64 + (64 + 16)));
  });
});

describe("LoRA targets", () => {
  it.each([
    ["01-bloom-h4", ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"], ["query_key_value"]],
    ["03-gpt_neox-parallel", ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"], ["query_key_value"]],
    ["05-llama-mha", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ["q_proj", "k_proj", "v_proj"]],
    ["07-baichuan2-rope", ["W_pack", "o_proj", "gate_proj", "up_proj", "down_proj"], ["W_pack"]],
  ])("%s: all linear modules, and the study's", (name, all, study) => {
    const spec = goldenSpec(name);
    expect(loraTargets(spec)).toEqual(all);
    expect(studyLoraTargets(spec)).toEqual(study);
  });

  it.each(cases)("name the tensors of the reference adapter of %s", async (name) => {
    const spec = goldenSpec(name);
    const { sources } = await readSafetensors(`${goldens}${name}/adapter/adapter_model.safetensors`);
    const expected = adapterTensors(spec, { rank: 8, targets: studyLoraTargets(spec) });
    expect(new Map(expected.map(({ name, shape }) => [name, shape]))).toEqual(
      new Map(sources.map((source) => [source.name, source.shape])),
    );
  });

  it("match whole modules, not letters at the end of a name", () => {
    const spec = goldenSpec("01-bloom-h4");
    expect(targetedModules(spec, ["dense"]).map(({ name }) => name)).toEqual([
      "transformer.h.0.self_attention.dense",
      "transformer.h.1.self_attention.dense",
    ]);
    expect(() => targetedModules(spec, ["h_to_4h"])).toThrow(/"h_to_4h".*dense_h_to_4h/);
    expect(() => targetedModules(spec, [])).toThrow(/empty list/);
  });
});

describe("configFromShape", () => {
  const shape = { hidden: 64, layers: 2, heads: 4, vocab: 100 };

  it.each(["bloom", "gpt_neox", "llama", "baichuan"])("writes a %s config that reads back with the asked sizes", (arch) => {
    const spec = decoderSpecFromConfig(configFromShape(arch, shape), "config.json");
    expect(spec).toMatchObject({ modelType: arch, hiddenSize: 64, layers: 2, heads: 4, vocabSize: 100 });
  });

  it("gives SwiGLU LLaMA's own intermediate sizes", () => {
    expect(configFromShape("llama", { ...shape, hidden: 4096, heads: 32 })).toMatchObject({ intermediate_size: 11_008 });
    expect(configFromShape("llama", { ...shape, hidden: 5120, heads: 40 })).toMatchObject({ intermediate_size: 13_824 });
  });

  it("refuses what the family cannot have", () => {
    expect(() => configFromShape("bloom", { ...shape, kvHeads: 2 })).toThrow(/--kv-heads 2/);
    expect(() => configFromShape("bloom", { ...shape, intermediate: 100 })).toThrow(/4 x hidden \(256\)/);
    expect(() => configFromShape("llama", { ...shape, heads: 5 })).toThrow(/not a multiple/);
    expect(() => configFromShape("rwkv", shape)).toThrow(/"rwkv".*bloom/);
    expect(() => presetConfig("bloom-9b")).toThrow(/bloom-560m/);
  });
});
