import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readAdapterFolder, writeAdapterFolder } from "../../src/checkpoint/adapter.js";
import { adapterConfigText } from "../../src/checkpoint/adapter-config.js";
import { safetensorsHeader } from "../../src/checkpoint/safetensors.js";
import { readTensor } from "../../src/checkpoint/stored-tensor.js";
import { goldens, pickle, readJson, refusal, temporaryFolder, torchBinBytes } from "./crafted-files.js";
import { memoryModel } from "./memory-model.js";

const reference = join(goldens, "05-llama-mha/adapter");

function changed(change: Record<string, unknown>): string {
  const dir = temporaryFolder();
  cpSync(reference, dir, { recursive: true });
  writeFileSync(join(dir, "adapter_config.json"), JSON.stringify({ ...readJson(join(dir, "adapter_config.json")), ...change }));
  return dir;
}

function withTensors(tensors: readonly (readonly [string, readonly number[]])[]): string {
  const dir = changed({});
  const { header, fileBytes } = safetensorsHeader(tensors.map(([name, shape]) => ({ name, shape, dtype: "F32" })));
  writeFileSync(join(dir, "adapter_model.safetensors"), Buffer.concat([header, Buffer.alloc(fileBytes - header.length)]));
  return dir;
}

describe("readAdapterFolder", () => {
  it("reads what PEFT wrote", async () => {
    const { lora, sources, baseModel, notes } = await readAdapterFolder(reference);
    expect(lora).toEqual({
      rank: 8,
      alpha: 16,
      scaling: 2,
      dropout: 0,
      targets: ["k_proj", "q_proj", "v_proj"],
      seed: 0,
    });
    expect(sources.length).toBe(2 * 3 * 2);
    expect(baseModel).toBe("05-llama-mha");
    expect(notes).toEqual([]);
  });

  it("scales rsLoRA by alpha / sqrt(rank)", async () => {
    expect((await readAdapterFolder(changed({ use_rslora: true }))).lora.scaling).toBe(16 / Math.sqrt(8));
  });

  it("notes fields it does not know", async () => {
    expect((await readAdapterFolder(changed({ new_field: 1 }))).notes.join()).toMatch(/adapter_config\.json.*new_field/);
  });

  it.each([".*\\.self_attn\\.(q|k|v)_proj", "all-linear"])("takes target_modules %j", async (targets) => {
    expect((await readAdapterFolder(changed({ target_modules: targets }))).lora.targets).toHaveLength(3);
  });

  it("takes a pattern that only Python reads on trust, and says so", async () => {
    expect((await readAdapterFolder(changed({ target_modules: "(?P<x>.*)_proj" }))).notes.join()).toMatch(/JavaScript does not understand/);
  });

  it.each<[string, unknown]>([
    ["peft_type", "IA3"],
    ["task_type", "SEQ_CLS"],
    ["bias", "all"],
    ["use_dora", true],
    ["fan_in_fan_out", true],
    ["modules_to_save", ["lm_head"]],
    ["rank_pattern", { q_proj: 4 }],
    ["alpha_pattern", { q_proj: 4 }],
    ["layers_to_transform", [0]],
    ["layer_replication", [[0, 4]]],
    ["megatron_config", { a: 1 }],
    ["target_parameters", ["experts"]],
    ["loftq_config", { bits: 4 }],
    ["eva_config", { rho: 2 }],
    ["corda_config", { x: 1 }],
    ["init_lora_weights", "pissa"],
  ])("refuses %s %j by name", async (field, value) => {
    const error = await refusal(readAdapterFolder(changed({ [field]: value })));
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toContain(`adapter_config.json: "${field}" is ${JSON.stringify(value)}`);
  });

  it.each<[string, unknown]>([
    ["r", 0],
    ["r", undefined],
    ["lora_alpha", "16"],
    ["lora_dropout", 1],
  ])("refuses %s %j", async (field, value) => {
    expect(await refusal(readAdapterFolder(changed({ [field]: value })))).toMatchObject({
      code: "BAD_CHECKPOINT",
      message: expect.stringContaining(`"${field}"`),
    });
  });

  it.each<[string, unknown, RegExp]>([
    ["r", 4, /is \[8, 64\], but adapter_config\.json says rank 4/],
    ["target_modules", ["q_proj", "k_proj", "v_proj", "o_proj"], /names "o_proj", for which there are no weights/],
    ["target_modules", ["q_proj", "k_proj"], /does not name "model\.layers\.\d\.self_attn\.v_proj"/],
    ["target_modules", ["proj"], /names "proj"/],
    ["target_modules", ".*q_proj", /does not match "model\.layers/],
  ])("refuses weights that %s %j does not describe", async (field, value, message) => {
    const error = await refusal(readAdapterFolder(changed({ [field]: value })));
    expect(error.code).toBe("CHECKPOINT_MISMATCH");
    expect(error.message).toMatch(message);
  });

  it.each<[string, readonly (readonly [string, readonly number[]])[], RegExp]>([
    [
      "a lone A",
      [["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", [8, 64]]],
      /"model\.layers\.0\.self_attn\.q_proj" has a lora_A only/,
    ],
    ["an embedding's adapter", [["base_model.model.model.embed_tokens.lora_embedding_A", [8, 320]]], /lora_embedding_A.*nothing else/],
    [
      "DoRA's magnitudes",
      [["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", [64]]],
      /lora_magnitude_vector.*nothing else/,
    ],
    ["a whole module", [["base_model.model.lm_head.weight", [320, 64]]], /lm_head\.weight.*nothing else/],
    ["no tensors", [], /holds no tensors/],
  ])("refuses %s", async (_what, tensors, message) => {
    expect((await refusal(readAdapterFolder(withTensors(tensors)))).message).toMatch(message);
  });

  it("says which file is missing", async () => {
    expect(await refusal(readAdapterFolder(join(goldens, "05-llama-mha")))).toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("adapter_config.json"),
    });
    const dir = changed({});
    rmSync(join(dir, "adapter_model.safetensors"));
    expect(await refusal(readAdapterFolder(dir))).toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("adapter_model.safetensors"),
    });
  });

  it("reads adapter_model.bin where there is no safetensors file", async () => {
    const dir = changed({ target_modules: ["q_proj"], r: 2 });
    rmSync(join(dir, "adapter_model.safetensors"));
    const name = "base_model.model.model.layers.0.self_attn.q_proj";
    const A = pickle.tensor({ shape: [2, 3], strides: [3, 1], elements: 14 });
    const B = pickle.tensor({ shape: [4, 2], strides: [2, 1], offset: 6, elements: 14 });
    writeFileSync(
      join(dir, "adapter_model.bin"),
      torchBinBytes(pickle.stream(pickle.dict([`${name}.lora_A.weight`, A], [`${name}.lora_B.weight`, B])), Buffer.alloc(56)),
    );
    expect((await readAdapterFolder(dir)).sources.map(({ shape }) => shape)).toEqual([
      [2, 3],
      [4, 2],
    ]);
  });

  it("refuses a truncated weights file by its tensor", async () => {
    const dir = changed({});
    const path = join(dir, "adapter_model.safetensors");
    writeFileSync(path, readFileSync(path).subarray(0, -4));
    expect(await refusal(readAdapterFolder(dir))).toMatchObject({
      code: "BAD_CHECKPOINT",
      message: expect.stringMatching(/adapter_model\.safetensors: "base_model.*truncated/),
    });
    renameSync(path, join(dir, "gone"));
  });
});

describe("writeAdapterFolder", () => {
  it("writes adapter_config.json with PEFT's fields in PEFT's order, two spaces deep", async () => {
    const adapter = await readAdapterFolder(reference);
    const dir = join(temporaryFolder(), "out");
    await writeAdapterFolder(await memoryModel({ adapter: adapter.sources }), dir, { lora: adapter.lora, baseModel: adapter.baseModel });
    expect(readFileSync(join(dir, "adapter_config.json"), "utf8")).toBe(
      JSON.stringify(readJson(join(reference, "adapter_config.json")), null, 2),
    );
  });

  it("writes weights that read back to the same values and settings", async () => {
    const adapter = await readAdapterFolder(reference);
    const dir = join(temporaryFolder(), "out");
    await writeAdapterFolder(await memoryModel({ adapter: adapter.sources }), dir, { lora: adapter.lora, baseModel: null });
    const written = await readAdapterFolder(dir);
    expect(written.lora).toEqual(adapter.lora);
    const byName = new Map(written.sources.map((source) => [source.name, source]));
    for (const source of adapter.sources)
      expect((await readTensor(byName.get(source.name)!)).data).toEqual((await readTensor(source)).data);
  });

  it("writes the same adapter_config.json whatever order the targets were given in, as a resumed run reads them back in another", async () => {
    const { lora, baseModel } = await readAdapterFolder(reference);
    const textOf = (targets: readonly string[]): string => adapterConfigText({ ...lora, targets }, baseModel);
    expect(textOf(["q_proj", "k_proj", "v_proj"])).toBe(textOf(lora.targets));
  });

  it("keeps rsLoRA's scaling", async () => {
    const adapter = await readAdapterFolder(changed({ use_rslora: true }));
    const dir = join(temporaryFolder(), "out");
    await writeAdapterFolder(await memoryModel({ adapter: adapter.sources }), dir, { lora: adapter.lora, baseModel: null });
    expect((await readAdapterFolder(dir)).lora.scaling).toBe(adapter.lora.scaling);
  });
});
