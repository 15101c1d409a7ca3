/**
 * Baichuan-2 (Yang et al. 2023, arXiv:2309.10305): LLaMA with a fused W_pack and a head whose rows are divided by their length.
 * The 7B model has RoPE, the 13B model ALiBi; its config.json tells them apart only by max_position_embeddings.
 */
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "./decoder-spec.js";
import {
  headDimension,
  type ModelConfig,
  type ModelFamily,
  type ModelShape,
  parseConfig,
  positiveInteger,
  positiveNumber,
  swigluIntermediate,
  unsupported,
} from "./family.js";

/** Baichuan-1, whose head is an ordinary one, differs in config.json by nothing but this. */
const baichuan1Vocabulary = 64_000;

const schema = z.looseObject({
  vocab_size: positiveInteger,
  hidden_size: positiveInteger,
  num_hidden_layers: positiveInteger,
  num_attention_heads: positiveInteger,
  intermediate_size: positiveInteger,
  hidden_act: z.string().default("silu"),
  max_position_embeddings: positiveInteger.nullish(),
  rms_norm_eps: positiveNumber.default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  z_loss_weight: z.number().default(0),
});

function spec(config: unknown, where: string): DecoderSpec {
  const fields = parseConfig(schema, config, where);
  if (fields.vocab_size === baichuan1Vocabulary) {
    throw new PolypacaError(
      "UNSUPPORTED",
      `${where}: "vocab_size" is 64000: this is Baichuan-1. polypaca supports Baichuan-2 (vocab_size 125696).`,
    );
  }
  if (fields.hidden_act !== "silu") throw unsupported(where, "hidden_act", fields.hidden_act, '"silu"');
  if (fields.tie_word_embeddings) throw unsupported(where, "tie_word_embeddings", true, "false for baichuan");
  if (fields.z_loss_weight !== 0) throw unsupported(where, "z_loss_weight", fields.z_loss_weight, "0");
  const heads = fields.num_attention_heads;
  const headDim = headDimension(fields.hidden_size, heads, where);
  const maxPositions = fields.max_position_embeddings ?? null;
  return {
    modelType: baichuan.modelType,
    vocabSize: fields.vocab_size,
    hiddenSize: fields.hidden_size,
    layers: fields.num_hidden_layers,
    heads,
    kvHeads: heads,
    headDim,
    intermediateSize: fields.intermediate_size,
    norm: "rms",
    normEpsilon: fields.rms_norm_eps,
    positions: maxPositions === null ? { kind: "alibi" } : { kind: "rope", rotaryDim: headDim, theta: 10_000 },
    maxPositions,
    activation: "swiglu",
    residual: "sequential",
    qkvLayout: "concatenated",
    embeddingNorm: false,
    head: "normalized",
    biases: { qkv: false, attentionOutput: false, mlp: false },
    names: {
      embedding: "model.embed_tokens",
      embeddingNorm: null,
      attentionNorm: "model.layers.{layer}.input_layernorm",
      qkv: ["model.layers.{layer}.self_attn.W_pack"],
      attentionOutput: "model.layers.{layer}.self_attn.o_proj",
      mlpNorm: "model.layers.{layer}.post_attention_layernorm",
      mlpUp: ["model.layers.{layer}.mlp.gate_proj", "model.layers.{layer}.mlp.up_proj"],
      mlpDown: "model.layers.{layer}.mlp.down_proj",
      finalNorm: "model.norm",
      head: baichuan.headName,
    },
  };
}

function config(shape: ModelShape): ModelConfig {
  const maxPositions = shape.maxPositions === undefined ? 4096 : shape.maxPositions;
  return {
    architectures: ["BaichuanForCausalLM"],
    model_type: baichuan.modelType,
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    intermediate_size: shape.intermediate ?? swigluIntermediate(shape.hidden),
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    hidden_act: "silu",
    ...(maxPositions === null ? {} : { max_position_embeddings: maxPositions }),
    model_max_length: maxPositions ?? 4096,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: false,
    bos_token_id: shape.bosTokenId ?? 1,
    eos_token_id: shape.eosTokenId ?? 2,
    pad_token_id: shape.padTokenId ?? 0,
    initializer_range: 0.02,
    use_cache: true,
  };
}

export const baichuan: ModelFamily = {
  modelType: "baichuan",
  studyLoraTargets: ["W_pack"],
  basePrefix: "model.",
  headName: "lm_head",
  bufferNames: /\.self_attn\.rotary_emb\.(inv_freq|cos_cached|sin_cached)$|\.(alibi_mask|future_mask)$/,
  spec,
  config,
};
