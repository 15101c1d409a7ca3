/**
 * What a decoder-only transformer is, as data. A model family is a function from config.json to this;
 * native/model/decoder_spec.h is its mirror. Everything the families differ in stands here.
 */
export interface DecoderSpec {
  /** `model_type` of config.json, for messages. */
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  /** Query heads; `kvHeads` divides it (fewer: grouped-query or multi-query attention). */
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly norm: "layer" | "rms";
  readonly normEpsilon: number;
  /**
   * `rope`: the first `rotaryDim` elements of a head are turned by halves, theta is the base; `maxPositions` sizes nothing but messages.
   * `alibi`: slope * (key - query) is added to the scaled score.
   */
  readonly positions: { readonly kind: "rope"; readonly rotaryDim: number; readonly theta: number } | { readonly kind: "alibi" };
  /** Longest sequence the configuration promises; null where it names none (ALiBi). Longer input is refused for rope. */
  readonly maxPositions: number | null;
  /** `swiglu` is silu(gate) * up. */
  readonly activation: "gelu" | "gelu_tanh" | "swiglu";
  /**
   * `sequential`: y = x + attn(ln1 x); y + mlp(ln2 y). `parallel`: x + attn(ln1 x) + mlp(ln2 x).
   * `post-norm`: BLOOM's apply_residual_connection_post_layernorm, both residuals start from the norm's output.
   */
  readonly residual: "sequential" | "parallel" | "post-norm";
  /**
   * Rows of the fused query/key/value weight. `interleaved`: [head][q, k, v][headDim] (BLOOM, GPT-NeoX; kvHeads = heads).
   * `concatenated`: all q, all k, all v, in one checkpoint tensor (Baichuan) or in three (LLaMA).
   */
  readonly qkvLayout: "interleaved" | "concatenated";
  /** A layer norm right after the embedding (BLOOM). */
  readonly embeddingNorm: boolean;
  /** `tied`: logits with the embedding; `normalized`: rows of the head divided by their length (Baichuan-2). */
  readonly head: "untied" | "tied" | "normalized";
  readonly biases: { readonly qkv: boolean; readonly attentionOutput: boolean; readonly mlp: boolean };
  readonly names: TensorNames;
}

/**
 * Checkpoint names of modules, `{layer}` standing for the layer's number, without the `.weight` / `.bias` at the end.
 * A list of several names is one fused matrix here: their rows stand one below the other in the order given.
 */
export interface TensorNames {
  readonly embedding: string;
  readonly embeddingNorm: string | null;
  readonly attentionNorm: string;
  readonly qkv: readonly string[];
  readonly attentionOutput: string;
  readonly mlpNorm: string;
  /** [up] or, for swiglu, [gate, up]. */
  readonly mlpUp: readonly string[];
  readonly mlpDown: string;
  readonly finalNorm: string;
  /** null when tied. */
  readonly head: string | null;
}

/** How many rows of the fused matrix each module in `names.qkv` or `names.mlpUp` has. */
export function partRows(spec: DecoderSpec, role: "qkv" | "mlpUp"): number[] {
  if (role === "mlpUp") return spec.names.mlpUp.map(() => spec.intermediateSize);
  const q = spec.heads * spec.headDim;
  const kv = spec.kvHeads * spec.headDim;
  return spec.names.qkv.length === 1 ? [q + 2 * kv] : [q, kv, kv];
}
