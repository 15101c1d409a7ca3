/** BLOOM (BigScience 2022, arXiv:2211.05100): ALiBi, fused query/key/value per head, a layer norm after the embedding, tied head. */
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "./decoder-spec.js";
import {
  eitherField,
  headDimension,
  type ModelConfig,
  type ModelFamily,
  type ModelShape,
  parseConfig,
  positiveInteger,
  positiveNumber,
} from "./family.js";

const schema = z.looseObject({
  vocab_size: positiveInteger,
  // Checkpoints on the Hub have n_embed and num_attention_heads, newer ones hidden_size and n_head.
  hidden_size: positiveInteger.nullish(),
  n_embed: positiveInteger.nullish(),
  n_layer: positiveInteger.nullish(),
  num_hidden_layers: positiveInteger.nullish(),
  n_head: positiveInteger.nullish(),
  num_attention_heads: positiveInteger.nullish(),
  layer_norm_epsilon: positiveNumber.default(1e-5),
  apply_residual_connection_post_layernorm: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
});

function spec(config: unknown, where: string): DecoderSpec {
  const fields = parseConfig(schema, config, where);
  const hiddenSize = eitherField(fields, ["n_embed", "hidden_size"], where);
  const heads = eitherField(fields, ["n_head", "num_attention_heads"], where);
  return {
    modelType: bloom.modelType,
    vocabSize: fields.vocab_size,
    hiddenSize,
    layers: eitherField(fields, ["n_layer", "num_hidden_layers"], where),
    heads,
    kvHeads: heads,
    headDim: headDimension(hiddenSize, heads, where),
    intermediateSize: 4 * hiddenSize,
    norm: "layer",
    normEpsilon: fields.layer_norm_epsilon,
    positions: { kind: "alibi" },
    maxPositions: null,
    activation: "gelu_tanh",
    residual: fields.apply_residual_connection_post_layernorm ? "post-norm" : "sequential",
    qkvLayout: "interleaved",
    embeddingNorm: true,
    head: fields.tie_word_embeddings ? "tied" : "untied",
    biases: { qkv: true, attentionOutput: true, mlp: true },
    names: {
      embedding: "transformer.word_embeddings",
      embeddingNorm: "transformer.word_embeddings_layernorm",
      attentionNorm: "transformer.h.{layer}.input_layernorm",
      qkv: ["transformer.h.{layer}.self_attention.query_key_value"],
      attentionOutput: "transformer.h.{layer}.self_attention.dense",
      mlpNorm: "transformer.h.{layer}.post_attention_layernorm",
      mlpUp: ["transformer.h.{layer}.mlp.dense_h_to_4h"],
      mlpDown: "transformer.h.{layer}.mlp.dense_4h_to_h",
      finalNorm: "transformer.ln_f",
      head: fields.tie_word_embeddings ? null : bloom.headName,
    },
  };
}

function config(shape: ModelShape): ModelConfig {
  const intermediate = 4 * shape.hidden;
  if ((shape.intermediate ?? intermediate) !== intermediate) {
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `BLOOM's intermediate size is always 4 x hidden (${intermediate}), got ${shape.intermediate}.`,
    );
  }
  return {
    architectures: ["BloomForCausalLM"],
    model_type: bloom.modelType,
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    n_layer: shape.layers,
    n_head: shape.heads,
    layer_norm_epsilon: 1e-5,
    apply_residual_connection_post_layernorm: false,
    hidden_dropout: 0,
    attention_dropout: 0,
    bos_token_id: shape.bosTokenId ?? 1,
    eos_token_id: shape.eosTokenId ?? 2,
    pad_token_id: shape.padTokenId ?? 3,
    tie_word_embeddings: true,
    initializer_range: 0.02,
    use_cache: true,
  };
}

export const bloom: ModelFamily = {
  modelType: "bloom",
  studyLoraTargets: ["query_key_value"],
  basePrefix: "transformer.",
  headName: "lm_head",
  bufferNames: /\.self_attention\.scale_mask_softmax\.causal_mask$/,
  spec,
  config,
};
