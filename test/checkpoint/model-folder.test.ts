import { cpSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/hf-folder.js";
import { planModelFiles, writeModelFolder } from "../../src/checkpoint/model-folder.js";
import { adapterFolderBytes, modelFolderBytes } from "../../src/checkpoint/sizes.js";
import { readTensor } from "../../src/checkpoint/stored-tensor.js";
import { goldens, readJson, temporaryFolder } from "./crafted-files.js";
import { memoryModel } from "./memory-model.js";

describe("planModelFiles", () => {
  const tensors = ["a", "b", "c", "d"].map((name) => ({ name, shape: [10, 10] }));

  it("puts everything into one file where it fits", () => {
    const plan = planModelFiles(tensors, "F32", 1600);
    expect(plan.files.map(({ name }) => name)).toEqual(["model.safetensors"]);
    expect(plan.index).toBeNull();
    expect(plan.tensorBytes).toBe(1600);
  });

  it("fills shards in order, none over the limit, and indexes every tensor", () => {
    const plan = planModelFiles(tensors, "BF16", 500);
    expect(plan.files.map(({ name, tensors }) => [name, tensors.map((tensor) => tensor.name)])).toEqual([
      ["model-00001-of-00002.safetensors", ["a", "b"]],
      ["model-00002-of-00002.safetensors", ["c", "d"]],
    ]);
    expect(JSON.parse(plan.index!)).toEqual({
      metadata: { total_size: 800 },
      weight_map: {
        a: "model-00001-of-00002.safetensors",
        b: "model-00001-of-00002.safetensors",
        c: "model-00002-of-00002.safetensors",
        d: "model-00002-of-00002.safetensors",
      },
    });
  });

  it("gives a tensor over the limit a shard to itself, and makes no empty shard", () => {
    expect(planModelFiles(tensors, "F32", 100).files.map(({ tensors }) => tensors.length)).toEqual([1, 1, 1, 1]);
  });
});

describe("writeModelFolder", () => {
  it.each([5e9, 100_000])("writes a folder that reads back to the same values (shards of at most %d bytes)", async (shardBytes) => {
    const base = await openCheckpoint(join(goldens, "06-llama-gqa"));
    const dir = join(temporaryFolder(), "out");
    await writeModelFolder(await memoryModel({ weights: base.sources }), dir, {
      config: base.config,
      dtype: "fp32",
      source: base,
      shardBytes,
    });
    const written = await openCheckpoint(dir);
    expect(written.spec).toEqual(base.spec);
    for (const [i, source] of base.sources.entries()) {
      expect((await readTensor(written.sources[i]!)).data).toEqual((await readTensor(source)).data);
    }
    expect(readdirSync(dir).includes("model.safetensors.index.json")).toBe(shardBytes < 5e9);
  });

  it("brings config.json's dtype up to date and changes nothing else in it", async () => {
    const base = await openCheckpoint(join(goldens, "01-bloom-h4"));
    const model = await memoryModel({ weights: base.sources });
    const dir = join(temporaryFolder(), "out");
    await writeModelFolder(model, dir, { config: base.config, dtype: "bf16" });
    expect(readJson(join(dir, "config.json"))).toEqual({ ...base.config, torch_dtype: "bfloat16" });
    expect((await openCheckpoint(dir)).sources.every(({ dtype }) => dtype === "BF16")).toBe(true);

    const newer = join(temporaryFolder(), "out");
    const { torch_dtype: _older, ...config } = base.config;
    await writeModelFolder(model, newer, { config: { ...config, dtype: "float16" }, dtype: "fp32" });
    expect(readJson(join(newer, "config.json"))).toEqual({ ...config, dtype: "float32" });
  });

  it("copies tokenizer, generation_config.json and model code from the source, and no weights or other files", async () => {
    const from = temporaryFolder();
    cpSync(join(goldens, "07-baichuan2-rope"), from, { recursive: true });
    for (const name of ["tokenizer.model", "tokenizer_config.json", "generation_config.json", "modeling_baichuan.py"])
      writeFileSync(join(from, name), "{}");
    const base = await openCheckpoint(from);
    const dir = join(temporaryFolder(), "out");
    await writeModelFolder(await memoryModel({ weights: base.sources }), dir, { config: base.config, dtype: "fp32", source: base });
    expect(readdirSync(dir).sort()).toEqual([
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "modeling_baichuan.py",
      "tokenizer.model",
      "tokenizer_config.json",
    ]);
  });
});

describe("sizes", () => {
  it.each(["01-bloom-h4", "05-llama-mha"])("tell what the files of %s take, to the alignment of their headers", async (name) => {
    const { spec } = await openCheckpoint(join(goldens, name));
    const targets = name.includes("bloom") ? ["query_key_value"] : ["q_proj", "k_proj", "v_proj"];
    // The reference files' headers list dtype, shape and offsets in other words; the tensors' bytes are the same.
    expect(Math.abs(modelFolderBytes(spec, "fp32") - statSync(join(goldens, name, "model.safetensors")).size)).toBeLessThan(400);
    expect(
      Math.abs(adapterFolderBytes(spec, { rank: 8, targets }) - statSync(join(goldens, name, "adapter/adapter_model.safetensors")).size),
    ).toBeLessThan(400);
    expect(modelFolderBytes(spec, "fp32")).toBeGreaterThan(1.9 * modelFolderBytes(spec, "bf16"));
  });
});
