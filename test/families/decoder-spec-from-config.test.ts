import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { PolypacaError } from "../../src/errors.js";
import { decoderSpecFromConfig, modelDropout, refuseModelDropout } from "../../src/families/index.js";

type Fields = Record<string, unknown>;

const golden = (name: string): Fields =>
  JSON.parse(readFileSync(new URL(`../goldens/${name}/config.json`, import.meta.url), "utf8")) as Fields;
const specOf = (config: unknown) => decoderSpecFromConfig(config, "m/config.json");
const without = (config: Fields, ...fields: string[]): Fields =>
  Object.fromEntries(Object.entries(config).filter(([field]) => !fields.includes(field)));

/** What reading this config throws. */
function refusal(config: unknown): PolypacaError {
  try {
    specOf(config);
  } catch (error) {
    if (error instanceof PolypacaError) return error;
    throw error;
  }
  throw new Error("expected the config to be refused");
}

describe("bloom", () => {
  const config = golden("01-bloom-h4");

  it("reads ALiBi, the embedding norm, interleaved rows and the tied head", () => {
    expect(specOf(config)).toMatchObject({
      modelType: "bloom",
      vocabSize: 272,
      hiddenSize: 64,
      layers: 2,
      heads: 4,
      kvHeads: 4,
      headDim: 16,
      intermediateSize: 256,
      norm: "layer",
      positions: { kind: "alibi" },
      maxPositions: null,
      activation: "gelu_tanh",
      residual: "sequential",
      qkvLayout: "interleaved",
      embeddingNorm: true,
      head: "tied",
    });
  });

  it("means the same by the field names of the Hub's checkpoints", () => {
    expect(specOf(golden("variants/bloom-safetensors-noprefix-fp16"))).toEqual(specOf(config));
  });

  it("refuses two spellings of one field that disagree", () => {
    const error = refusal({ ...config, n_embed: 128 });
    expect(error.code).toBe("BAD_CONFIG");
    expect(error.message).toContain('"n_embed" is 128 but "hidden_size" is 64');
  });

  it("knows the post-layernorm residual and an untied head", () => {
    const spec = specOf({ ...config, apply_residual_connection_post_layernorm: true, tie_word_embeddings: false });
    expect(spec).toMatchObject({ residual: "post-norm", head: "untied", names: { head: "lm_head" } });
  });
});

describe("gpt_neox", () => {
  const config = golden("03-gpt_neox-parallel");

  it("turns the first rotary_pct of each head and has biases where attention_bias is absent", () => {
    expect(specOf(config)).toMatchObject({
      headDim: 16,
      positions: { kind: "rope", rotaryDim: 4, theta: 10_000 },
      maxPositions: 128,
      activation: "gelu",
      residual: "parallel",
      qkvLayout: "interleaved",
      head: "untied",
      biases: { qkv: true, attentionOutput: true, mlp: true },
    });
  });

  it("leaves out the attention's biases, and only those, with attention_bias false", () => {
    expect(specOf({ ...config, attention_bias: false }).biases).toEqual({ qkv: false, attentionOutput: false, mlp: true });
  });

  it("follows use_parallel_residual, and takes it for true where it is absent", () => {
    expect(specOf(golden("04-gpt_neox-sequential")).residual).toBe("sequential");
    expect(specOf(without(config, "use_parallel_residual")).residual).toBe("parallel");
  });

  it.each(["gelu_new", "gelu_fast", "gelu_pytorch_tanh"])("takes %s for the tanh form", (name) => {
    expect(specOf({ ...config, hidden_act: name }).activation).toBe("gelu_tanh");
  });

  it.each(["relu", "constructor"])("refuses hidden_act %s by name", (name) => {
    const error = refusal({ ...config, hidden_act: name });
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toContain(`m/config.json: "hidden_act" is "${name}"`);
  });

  it("refuses a rotary share that leaves an odd number of dimensions", () => {
    expect(refusal({ ...config, rotary_pct: 0.2 }).message).toContain("RoPE over 3 of 16 dimensions");
  });

  it("reads RoPE's settings as transformers 5 writes them", () => {
    const spec = specOf({
      ...without(config, "rotary_pct", "rotary_emb_base"),
      rope_parameters: { rope_type: "default", rope_theta: 5000, partial_rotary_factor: 0.5 },
    });
    expect(spec.positions).toEqual({ kind: "rope", rotaryDim: 8, theta: 5000 });
  });
});

describe("llama", () => {
  const config = golden("06-llama-gqa");

  it("reads grouped-query attention and the RoPE base", () => {
    expect(specOf(config)).toMatchObject({
      heads: 8,
      kvHeads: 2,
      headDim: 8,
      norm: "rms",
      positions: { kind: "rope", rotaryDim: 8, theta: 500_000 },
      activation: "swiglu",
      qkvLayout: "concatenated",
      head: "untied",
      biases: { qkv: false, attentionOutput: false, mlp: false },
    });
  });

  it("takes as many key/value heads as heads, and theta 10,000, where the fields are absent", () => {
    expect(specOf(without(config, "num_key_value_heads", "rope_theta"))).toMatchObject({ kvHeads: 8, positions: { theta: 10_000 } });
  });

  it("follows head_dim, biases and tied embeddings", () => {
    expect(specOf({ ...config, head_dim: 16, attention_bias: true, mlp_bias: true, tie_word_embeddings: true })).toMatchObject({
      headDim: 16,
      head: "tied",
      biases: { qkv: true, attentionOutput: true, mlp: true },
      names: { head: null },
    });
  });

  it.each([
    ["rope_scaling", { type: "linear", factor: 2 }],
    ["rope_scaling", { factor: 8 }],
    ["rope_parameters", { rope_type: "llama3", rope_theta: 5e5 }],
    ["hidden_act", "gelu"],
    ["quantization_config", { bits: 4 }],
  ])("refuses %s %j by name", (field, value) => {
    const error = refusal({ ...config, [field]: value });
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toContain(`"${field}"`);
  });

  it("accepts a rope_scaling of type default", () => {
    expect(specOf({ ...config, rope_scaling: { rope_type: "default" } })).toEqual(specOf(config));
  });

  it.each([
    ["hidden_size", "64", '"hidden_size" is "64"'],
    ["num_hidden_layers", 0, '"num_hidden_layers" is 0'],
    ["num_attention_heads", 7, "not a multiple of the number of attention heads, 7"],
    ["num_key_value_heads", 3, "not a multiple of the number of key/value heads, 3"],
    ["intermediate_size", undefined, '"intermediate_size" is missing'],
  ])("refuses %s %j, naming file and field", (field, value, message) => {
    const error = refusal({ ...config, [field]: value });
    expect(error.code).toBe("BAD_CONFIG");
    expect(error.message).toContain("m/config.json");
    expect(error.message).toContain(message);
  });
});

describe("baichuan", () => {
  it("has RoPE where max_position_embeddings is there, ALiBi where it is not, and a normalized head in both", () => {
    expect(specOf(golden("07-baichuan2-rope"))).toMatchObject({
      positions: { kind: "rope", rotaryDim: 12, theta: 10_000 },
      maxPositions: 128,
      head: "normalized",
    });
    expect(specOf(golden("08-baichuan2-alibi"))).toMatchObject({ positions: { kind: "alibi" }, maxPositions: null, head: "normalized" });
  });

  it("refuses Baichuan-1 by name", () => {
    const error = refusal({ ...golden("07-baichuan2-rope"), vocab_size: 64_000 });
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toContain("Baichuan-1");
  });
});

describe("model_type", () => {
  it("is refused by name where unknown, with those supported", () => {
    const error = refusal({ ...golden("05-llama-mha"), model_type: "mamba" });
    expect(error.code).toBe("UNSUPPORTED");
    expect(error.message).toMatch(/m\/config\.json: "mamba".*bloom, gpt_neox, llama, baichuan/);
  });

  it("is asked for where missing", () => {
    expect(refusal({ hidden_size: 8 }).message).toContain('"model_type" is missing');
  });

  it.each([[[]], [null], ["llama"]])("is not looked for in %j", (config) => {
    expect(refusal(config).code).toBe("BAD_CONFIG");
  });
});

describe("dropout of the model", () => {
  it("is found where it is not zero, and is not confused with the classifier's", () => {
    expect(modelDropout({ hidden_dropout: 0.1, attention_dropout: 0, classifier_dropout: 0.1 })).toEqual([
      { field: "hidden_dropout", value: 0.1 },
    ]);
  });

  it("is refused by field and value", () => {
    expect(() => refuseModelDropout({ attention_dropout: 0.2 }, "m/config.json")).toThrow(/m\/config\.json: "attention_dropout" is 0\.2/);
    expect(() => refuseModelDropout(golden("01-bloom-h4"), "m/config.json")).not.toThrow();
  });
});
