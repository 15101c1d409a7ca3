import { cpSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/hf-folder.js";
import { safetensorsHeader } from "../../src/checkpoint/safetensors.js";
import { readTensor } from "../../src/checkpoint/stored-tensor.js";
import { expectedTensors } from "../../src/families/parameters.js";
import type { TensorInfo } from "../../src/native/addon-types.js";
import { goldens, pickle, readJson, refusal, temporaryFolder, torchBinBytes } from "./crafted-files.js";

/** A copy of a reference case, without the files that are not the model's. */
function copyOf(name: string): string {
  const dir = temporaryFolder();
  cpSync(join(goldens, name), dir, { recursive: true, filter: (path) => !/case\.|train\.|generate\.|expect\./.test(basename(path)) });
  return dir;
}

function changeConfig(dir: string, change: Record<string, unknown>): void {
  writeFileSync(join(dir, "config.json"), JSON.stringify({ ...readJson(join(dir, "config.json")), ...change }));
}

/** Replaces the weights by zeros of these names and shapes. */
function writeWeights(dir: string, tensors: readonly TensorInfo[]): void {
  const { header, fileBytes } = safetensorsHeader(tensors);
  writeFileSync(join(dir, "model.safetensors"), Buffer.concat([header, Buffer.alloc(fileBytes - header.length)]));
}

async function specTensors(dir: string): Promise<TensorInfo[]> {
  return expectedTensors((await openCheckpoint(dir)).spec).map((tensor) => ({ ...tensor, dtype: "F32" }));
}

/** All values of a checkpoint, by name. */
async function valuesOf(dir: string): Promise<Map<string, Float32Array>> {
  const { sources } = await openCheckpoint(dir);
  return new Map(await Promise.all(sources.map(async (source) => [source.name, (await readTensor(source)).data] as const)));
}

describe("openCheckpoint", () => {
  it.each(["01-bloom-h4", "03-gpt_neox-parallel", "06-llama-gqa", "08-baichuan2-alibi"])(
    "lists the tensors of %s in the model's order",
    async (name) => {
      const { spec, sources, notes, config } = await openCheckpoint(join(goldens, name));
      expect(sources.map(({ name, shape }) => ({ name, shape }))).toEqual(expectedTensors(spec));
      expect(notes).toEqual([]);
      expect(config).toEqual(readJson(join(goldens, name, "config.json")));
    },
  );

  it("reads sharded safetensors to the values of the whole file", async () => {
    expect(await valuesOf(join(goldens, "variants/bloom-safetensors-sharded"))).toEqual(await valuesOf(join(goldens, "01-bloom-h4")));
  });

  it("reads sharded .bin files to the values of the base, views, strides and all, without the rotary buffers", async () => {
    expect(await valuesOf(join(goldens, "variants/llama-bin-sharded"))).toEqual(await valuesOf(join(goldens, "05-llama-mha")));
  });

  it("gives names without the prefix their full ones, and keeps fp16", async () => {
    const { sources } = await openCheckpoint(join(goldens, "variants/bloom-safetensors-noprefix-fp16"));
    const base = await openCheckpoint(join(goldens, "01-bloom-h4"));
    expect(sources.map(({ name }) => name)).toEqual(base.sources.map(({ name }) => name));
    expect(new Set(sources.map(({ dtype }) => dtype))).toEqual(new Set(["F16"]));
  });

  it("reads bf16 and fp16 side by side, near the base's values", async () => {
    const mixed = await openCheckpoint(join(goldens, "variants/llama-bin-sharded-mixed16"));
    expect(new Set(mixed.sources.map(({ dtype }) => dtype))).toEqual(new Set(["F16", "BF16"]));
    const base = await valuesOf(join(goldens, "05-llama-mha"));
    for (const [name, values] of await valuesOf(mixed.dir)) {
      const expected = base.get(name)!;
      expect(
        values.every((value, i) => Math.abs(value - expected[i]!) <= 2 ** -8 * Math.abs(expected[i]!) + 1e-6),
        name,
      ).toBe(true);
    }
  });

  it("prefers safetensors and says what it passed over", async () => {
    const dir = copyOf("01-bloom-h4");
    writeFileSync(join(dir, "pytorch_model.bin"), "not looked at");
    const { notes, sources } = await openCheckpoint(dir);
    expect(new Set(sources.map(({ file }) => basename(file)))).toEqual(new Set(["model.safetensors"]));
    expect(notes.join()).toMatch(/model\.safetensors.*pytorch_model\.bin/);
  });

  it("finds the tokenizer's files", async () => {
    const dir = copyOf("05-llama-mha");
    writeFileSync(join(dir, "tokenizer.model"), "");
    writeFileSync(join(dir, "tokenizer_config.json"), "{}");
    expect((await openCheckpoint(dir)).tokenizerFiles).toEqual([join(dir, "tokenizer.model"), join(dir, "tokenizer_config.json")]);
  });

  it("leaves out a tied head and the causal masks of old GPT-NeoX files, whatever their type", async () => {
    const bloom = copyOf("01-bloom-h4");
    writeWeights(bloom, [...(await specTensors(bloom)), { name: "lm_head.weight", shape: [272, 64], dtype: "F32" }]);
    expect((await openCheckpoint(bloom)).sources.some(({ name }) => name === "lm_head.weight")).toBe(false);

    const neox = copyOf("03-gpt_neox-parallel");
    const mask = { name: "gpt_neox.layers.0.attention.bias", shape: [1, 1, 4, 4], dtype: "BOOL" } as unknown as TensorInfo;
    writeWeights(neox, [...(await specTensors(neox)), mask, { name: "gpt_neox.layers.0.attention.masked_bias", shape: [], dtype: "F32" }]);
    expect((await openCheckpoint(neox)).sources.map(({ name }) => name)).not.toContain(mask.name);
  });
});

describe("a folder that is no sound model", () => {
  it("is refused where it does not exist, or holds an adapter", async () => {
    expect(await refusal(openCheckpoint(join(goldens, "none")))).toMatchObject({ code: "NOT_FOUND" });
    const error = await refusal(openCheckpoint(join(goldens, "01-bloom-h4/adapter")));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toMatch(/adapter\/config\.json.*--adapter/);
  });

  it("is refused where config.json is no JSON", async () => {
    const dir = copyOf("01-bloom-h4");
    writeFileSync(join(dir, "config.json"), "{");
    expect(await refusal(openCheckpoint(dir))).toMatchObject({
      code: "BAD_CHECKPOINT",
      message: expect.stringContaining("config.json: not valid JSON"),
    });
  });

  it("is refused for an unknown model_type, named with the file", async () => {
    const dir = copyOf("01-bloom-h4");
    changeConfig(dir, { model_type: "mamba" });
    const error = await refusal(openCheckpoint(dir));
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toContain(`${join(dir, "config.json")}: "mamba"`);
  });

  it("is refused without weights, and says what stands there instead", async () => {
    const dir = copyOf("01-bloom-h4");
    renameSync(join(dir, "model.safetensors"), join(dir, "model.gguf"));
    const error = await refusal(openCheckpoint(dir));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toMatch(/pytorch_model\.bin.*It has model\.gguf/);
  });

  it.each([
    ["variants/bloom-safetensors-sharded", "model-00002-of-00003.safetensors"],
    ["variants/llama-bin-sharded", "pytorch_model-00003-of-00003.bin"],
  ])("is refused where a shard of %s is missing, by its name", async (variant, shard) => {
    const dir = copyOf(variant);
    rmSync(join(dir, shard));
    const error = await refusal(openCheckpoint(dir));
    expect(error.code).toBe("NOT_FOUND");
    expect(error.message).toMatch(new RegExp(`${shard}: this shard is missing; .*index\\.json says that \\d+ tensors are`));
  });

  it.each(["../other/model.safetensors", "/etc/passwd", "config.json", 3])(
    "is refused where the index names %j for a shard",
    async (shard) => {
      const dir = copyOf("variants/bloom-safetensors-sharded");
      writeFileSync(join(dir, "model.safetensors.index.json"), JSON.stringify({ weight_map: { "transformer.ln_f.bias": shard } }));
      expect(await refusal(openCheckpoint(dir))).toMatchObject({
        code: "BAD_CHECKPOINT",
        message: expect.stringContaining(JSON.stringify(shard)),
      });
    },
  );

  it("is refused where the index promises a tensor that its shard has not", async () => {
    const dir = copyOf("variants/bloom-safetensors-sharded");
    const path = join(dir, "model.safetensors.index.json");
    const index = readJson(path) as { weight_map: Record<string, string> };
    index.weight_map["transformer.h.7.input_layernorm.bias"] = "model-00001-of-00003.safetensors";
    writeFileSync(path, JSON.stringify(index));
    expect((await refusal(openCheckpoint(dir))).message).toMatch(
      /00001-of-00003\.safetensors: "transformer\.h\.7\.input_layernorm\.bias" is not in it/,
    );
  });

  it("is refused where one tensor stands in two shards", async () => {
    const dir = copyOf("variants/bloom-safetensors-sharded");
    const [first, second] = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"] as const;
    cpSync(join(dir, first), join(dir, second));
    const map = { "transformer.word_embeddings.weight": first, "transformer.word_embeddings_layernorm.weight": second };
    writeFileSync(join(dir, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
    const error = await refusal(openCheckpoint(dir));
    expect(error.code).toBe("BAD_CHECKPOINT");
    expect(error.message).toMatch(/stands twice/);
  });

  it("is refused where its vocabulary is not the config's, with both sizes", async () => {
    const dir = copyOf("05-llama-mha");
    changeConfig(dir, { vocab_size: 321 });
    const error = await refusal(openCheckpoint(dir));
    expect(error.code).toBe("CHECKPOINT_MISMATCH");
    expect(error.message).toMatch(
      /model\.safetensors: "model\.embed_tokens\.weight" is \[320, 64\], config\.json says \[321, 64\] \("vocab_size" is 321, the weights have 320 rows\)/,
    );
  });

  it("is refused for another shape, missing and left-over tensors, by their names", async () => {
    const shape = copyOf("05-llama-mha");
    changeConfig(shape, { intermediate_size: 128 });
    expect((await refusal(openCheckpoint(shape))).message).toMatch(
      /"model\.layers\.0\.mlp\.gate_proj\.weight" is \[112, 64\], config\.json says \[128, 64\]/,
    );

    const missing = copyOf("05-llama-mha");
    changeConfig(missing, { num_hidden_layers: 3 });
    const lacking = await refusal(openCheckpoint(missing));
    expect(lacking.code).toBe("CHECKPOINT_MISMATCH");
    expect(lacking.message).toMatch(
      /9 tensors that config\.json \(llama, 3 layers\) asks for are missing: "model\.layers\.2\.input_layernorm\.weight".* and 4 more/,
    );

    const leftOver = copyOf("05-llama-mha");
    changeConfig(leftOver, { num_hidden_layers: 1 });
    const extra = await refusal(openCheckpoint(leftOver));
    expect(extra.code).toBe("CHECKPOINT_MISMATCH");
    expect(extra.message).toMatch(/9 tensors belong to no part of the model.*"model\.layers\.1\./);
  });

  it("is refused for weights of integers, by tensor", async () => {
    const dir = copyOf("01-bloom-h4");
    const tensors = (await specTensors(dir)).map((tensor) =>
      tensor.name === "transformer.ln_f.weight" ? ({ ...tensor, dtype: "I32" } as unknown as TensorInfo) : tensor,
    );
    writeWeights(dir, tensors);
    expect(await refusal(openCheckpoint(dir))).toMatchObject({
      code: "BAD_CHECKPOINT",
      message: expect.stringContaining('"transformer.ln_f.weight" has elements of type I32'),
    });
  });

  it("is refused for a .bin that would run code", async () => {
    const dir = copyOf("01-bloom-h4");
    rmSync(join(dir, "model.safetensors"));
    writeFileSync(
      join(dir, "pytorch_model.bin"),
      torchBinBytes(pickle.stream(pickle.reduce(pickle.global("posix", "system"), pickle.tuple(pickle.text("true"))))),
    );
    expect(await refusal(openCheckpoint(dir))).toMatchObject({ code: "BAD_CHECKPOINT", message: expect.stringContaining("posix.system") });
  });
});
