import { decoderSpecFromConfig } from "../../src/families/index.js";
import type { Batch } from "../../src/native/addon-types.js";
import { Model } from "../../src/native/model.js";

/** Small configurations of every family; the sizes are awkward on purpose. */
export const tinyConfigs = {
  bloom: { model_type: "bloom", vocab_size: 97, hidden_size: 48, n_layer: 2, n_head: 6, layer_norm_epsilon: 1e-5 },
  "bloom post-norm": {
    model_type: "bloom",
    vocab_size: 97,
    hidden_size: 48,
    n_layer: 2,
    n_head: 3,
    layer_norm_epsilon: 1e-5,
    apply_residual_connection_post_layernorm: true,
  },
  gpt_neox: {
    ...{ model_type: "gpt_neox", vocab_size: 101, hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 3, intermediate_size: 100 },
    ...{
      hidden_act: "gelu",
      rotary_pct: 0.25,
      rotary_emb_base: 10000,
      max_position_embeddings: 256,
      layer_norm_eps: 1e-5,
      use_parallel_residual: true,
    },
  },
  llama: {
    ...{ model_type: "llama", vocab_size: 89, hidden_size: 40, num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2 },
    ...{
      intermediate_size: 70,
      hidden_act: "silu",
      max_position_embeddings: 256,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      tie_word_embeddings: false,
    },
  },
  baichuan: {
    ...{ model_type: "baichuan", vocab_size: 91, hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 80 },
    ...{ hidden_act: "silu", model_max_length: 256, rms_norm_eps: 1e-6 },
  },
} as const satisfies Record<string, Readonly<Record<string, unknown>>>;

export type TinyFamily = keyof typeof tinyConfigs;

export function tinyTargets(family: TinyFamily): string[] {
  if (family === "llama") return ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"];
  if (family === "baichuan") return ["W_pack", "o_proj", "gate_proj"];
  return ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"];
}

export function tinyModel(family: TinyFamily, options: { readonly dtype?: "fp32" | "bf16"; readonly seed?: number } = {}): Promise<Model> {
  const config = tinyConfigs[family];
  const spec = decoderSpecFromConfig(config, "config.json of the test");
  // A wide initialisation, so that every part of the model matters.
  return Model.init(spec, { device: "cpu", dtype: options.dtype ?? "fp32", seed: options.seed ?? 7, initializerRange: 0.2, config });
}

/** Sequences of given lengths with pseudo-random ids; about a third of the labels are ignored. */
export function tinyBatch(vocab: number, lengths: readonly number[], first = 0): Batch {
  const total = lengths.reduce((a, b) => a + b, 0);
  const inputIds = new Int32Array(total);
  const labels = new Int32Array(total);
  let at = 0;
  lengths.forEach((length, sequence) => {
    for (let position = 0; position < length; position += 1, at += 1) {
      const draw = Math.imul((first + sequence + 1) * 7919 + position, 2654435761) >>> 8;
      inputIds[at] = draw % vocab;
      labels[at] = draw % 3 === 0 ? -100 : inputIds[at]!;
    }
  });
  return { inputIds, labels, sequenceLengths: Int32Array.from(lengths), exampleIndices: Int32Array.from(lengths, (_, i) => first + i) };
}

/** Targets of a batch: labels that are not -100 and not the first of their sequence. */
export function targetsOf({ labels, sequenceLengths }: Batch): number {
  let count = 0;
  let at = 0;
  for (const length of sequenceLengths) {
    for (let position = 1; position < length; position += 1) if (labels[at + position] !== -100) count += 1;
    at += length;
  }
  return count;
}
