/** LLaMA (Touvron et al. 2023, arXiv:2302.13971) and OpenLLaMA: RoPE, RMSNorm, SwiGLU, optionally grouped-query attention. */
import { z } from "zod";
import type { DecoderSpec } from "./decoder-spec.js";
import {
  headDimension,
  type ModelConfig,
  type ModelFamily,
  type ModelShape,
  parseConfig,
  positiveInteger,
  positiveNumber,
  refuseScaledRope,
  ropeParametersSchema,
  swigluIntermediate,
  unsupported,
} from "./family.js";

const schema = z.looseObject({
  vocab_size: positiveInteger,
  hidden_size: positiveInteger,
  num_hidden_layers: positiveInteger,
  num_attention_heads: positiveInteger,
  num_key_value_heads: positiveInteger.nullish(),
  head_dim: positiveInteger.nullish(),
  intermediate_size: positiveInteger,
  hidden_act: z.string().default("silu"),
  rope_theta: positiveNumber.default(10_000),
  rope_scaling: z.unknown().optional(),
  rope_parameters: ropeParametersSchema,
  max_position_embeddings: positiveInteger.default(2048),
  rms_norm_eps: positiveNumber.default(1e-6),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(false),
});

function spec(config: unknown, where: string): DecoderSpec {
  const fields = parseConfig(schema, config, where);
  refuseScaledRope(fields, where);
  if (fields.hidden_act !== "silu") throw unsupported(where, "hidden_act", fields.hidden_act, '"silu"');
  const heads = fields.num_attention_heads;
  const headDim = fields.head_dim ?? headDimension(fields.hidden_size, heads, where);
  return {
    modelType: llama.modelType,
    vocabSize: fields.vocab_size,
    hiddenSize: fields.hidden_size,
    layers: fields.num_hidden_layers,
    heads,
    kvHeads: fields.num_key_value_heads ?? heads,
    headDim,
    intermediateSize: fields.intermediate_size,
    norm: "rms",
    normEpsilon: fields.rms_norm_eps,
    positions: { kind: "rope", rotaryDim: headDim, theta: fields.rope_parameters?.rope_theta ?? fields.rope_theta },
    maxPositions: fields.max_position_embeddings,
    activation: "swiglu",
    residual: "sequential",
    qkvLayout: "concatenated",
    embeddingNorm: false,
    head: fields.tie_word_embeddings ? "tied" : "untied",
    biases: { qkv: fields.attention_bias, attentionOutput: fields.attention_bias, mlp: fields.mlp_bias },
    names: {
      embedding: "model.embed_tokens",
      embeddingNorm: null,
      attentionNorm: "model.layers.{layer}.input_layernorm",
      qkv: ["q_proj", "k_proj", "v_proj"].map((module) => `model.layers.{layer}.self_attn.${module}`),
      attentionOutput: "model.layers.{layer}.self_attn.o_proj",
      mlpNorm: "model.layers.{layer}.post_attention_layernorm",
      mlpUp: ["model.layers.{layer}.mlp.gate_proj", "model.layers.{layer}.mlp.up_proj"],
      mlpDown: "model.layers.{layer}.mlp.down_proj",
      finalNorm: "model.norm",
      head: fields.tie_word_embeddings ? null : llama.headName,
    },
  };
}

function config(shape: ModelShape): ModelConfig {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: llama.modelType,
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    intermediate_size: shape.intermediate ?? swigluIntermediate(shape.hidden),
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads ?? shape.heads,
    hidden_act: "silu",
    max_position_embeddings: shape.maxPositions ?? 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000,
    tie_word_embeddings: false,
    bos_token_id: shape.bosTokenId ?? 1,
    eos_token_id: shape.eosTokenId ?? 2,
    initializer_range: 0.02,
    use_cache: true,
  };
}

export const llama: ModelFamily = {
  modelType: "llama",
  studyLoraTargets: ["q_proj", "k_proj", "v_proj"],
  basePrefix: "model.",
  headName: "lm_head",
  bufferNames: /\.self_attn\.rotary_emb\.(inv_freq|cos_cached|sin_cached)$/,
  spec,
  config,
};
