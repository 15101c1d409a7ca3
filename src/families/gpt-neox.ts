/** GPT-NeoX and Pythia (Black et al. 2022, arXiv:2204.06745): RoPE on part of each head, attention and MLP side by side. */
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
  unsupported,
} from "./family.js";

const schema = z.looseObject({
  vocab_size: positiveInteger,
  hidden_size: positiveInteger,
  num_hidden_layers: positiveInteger,
  num_attention_heads: positiveInteger,
  intermediate_size: positiveInteger,
  hidden_act: z.string().default("gelu"),
  rotary_pct: z.number().positive().max(1).default(0.25),
  rotary_emb_base: positiveNumber.default(10_000),
  rope_parameters: ropeParametersSchema,
  max_position_embeddings: positiveInteger.default(2048),
  layer_norm_eps: positiveNumber.default(1e-5),
  use_parallel_residual: z.boolean().default(true),
  attention_bias: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
});

const activations: Readonly<Record<string, DecoderSpec["activation"]>> = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
};

function spec(config: unknown, where: string): DecoderSpec {
  const fields = parseConfig(schema, config, where);
  refuseScaledRope(fields, where);
  const activation = Object.hasOwn(activations, fields.hidden_act) ? activations[fields.hidden_act] : undefined;
  if (!activation) throw unsupported(where, "hidden_act", fields.hidden_act, Object.keys(activations).join(", "));
  const headDim = headDimension(fields.hidden_size, fields.num_attention_heads, where);
  const share = fields.rope_parameters?.partial_rotary_factor ?? fields.rotary_pct;
  return {
    modelType: gptNeox.modelType,
    vocabSize: fields.vocab_size,
    hiddenSize: fields.hidden_size,
    layers: fields.num_hidden_layers,
    heads: fields.num_attention_heads,
    kvHeads: fields.num_attention_heads,
    headDim,
    intermediateSize: fields.intermediate_size,
    norm: "layer",
    normEpsilon: fields.layer_norm_eps,
    positions: {
      kind: "rope",
      rotaryDim: Math.trunc(headDim * share),
      theta: fields.rope_parameters?.rope_theta ?? fields.rotary_emb_base,
    },
    maxPositions: fields.max_position_embeddings,
    activation,
    residual: fields.use_parallel_residual ? "parallel" : "sequential",
    qkvLayout: "interleaved",
    embeddingNorm: false,
    head: fields.tie_word_embeddings ? "tied" : "untied",
    biases: { qkv: fields.attention_bias, attentionOutput: fields.attention_bias, mlp: true },
    names: {
      embedding: "gpt_neox.embed_in",
      embeddingNorm: null,
      attentionNorm: "gpt_neox.layers.{layer}.input_layernorm",
      qkv: ["gpt_neox.layers.{layer}.attention.query_key_value"],
      attentionOutput: "gpt_neox.layers.{layer}.attention.dense",
      mlpNorm: "gpt_neox.layers.{layer}.post_attention_layernorm",
      mlpUp: ["gpt_neox.layers.{layer}.mlp.dense_h_to_4h"],
      mlpDown: "gpt_neox.layers.{layer}.mlp.dense_4h_to_h",
      finalNorm: "gpt_neox.final_layer_norm",
      head: fields.tie_word_embeddings ? null : gptNeox.headName,
    },
  };
}

function config(shape: ModelShape): ModelConfig {
  return {
    architectures: ["GPTNeoXForCausalLM"],
    model_type: gptNeox.modelType,
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    intermediate_size: shape.intermediate ?? 4 * shape.hidden,
    hidden_act: "gelu",
    rotary_pct: 0.25,
    rotary_emb_base: 10_000,
    max_position_embeddings: shape.maxPositions ?? 2048,
    layer_norm_eps: 1e-5,
    use_parallel_residual: true,
    attention_bias: true,
    attention_dropout: 0,
    hidden_dropout: 0,
    bos_token_id: shape.bosTokenId ?? 0,
    eos_token_id: shape.eosTokenId ?? 0,
    tie_word_embeddings: false,
    initializer_range: 0.02,
    use_cache: true,
  };
}

export const gptNeox: ModelFamily = {
  modelType: "gpt_neox",
  studyLoraTargets: ["query_key_value"],
  basePrefix: "gpt_neox.",
  headName: "embed_out",
  // `attention.bias` is the causal mask; the biases of weights are called `attention.<module>.bias`.
  bufferNames: /\.attention\.(bias|masked_bias|rotary_emb\.(inv_freq|cos_cached|sin_cached))$/,
  spec,
  config,
};
