/** adapter_config.json as PEFT 0.9 and later write it. */
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { LoraOptions } from "../native/addon-types.js";

const schema = z.looseObject({
  peft_type: z.string(),
  task_type: z.string().nullish(),
  base_model_name_or_path: z.string().nullish(),
  r: z.number().int().positive(),
  lora_alpha: z.number().positive(),
  lora_dropout: z.number().min(0).lt(1).default(0),
  target_modules: z.union([z.string(), z.array(z.string())]).nullish(),
  use_rslora: z.boolean().default(false),
});

/** What the fields of an adapter_config.json come to. */
export interface AdapterConfig {
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank, or alpha / sqrt(rank) for rsLoRA. */
  readonly scaling: number;
  readonly dropout: number;
  readonly baseModel: string | null;
  /** Names of modules, or a regular expression for whole module names, as in the file; null where it has none. */
  readonly targetModules: string | readonly string[] | null;
  readonly notes: readonly string[];
}

const isUnset = (value: unknown): boolean =>
  value === null || value === false || (typeof value === "object" && Object.keys(value).length === 0);

/** Fields that change what the adapter computes in a way polypaca does not do; accepted only where they say nothing. */
const mustBeUnset = [
  "fan_in_fan_out",
  "use_dora",
  "use_qalora",
  "lora_bias",
  "modules_to_save",
  "rank_pattern",
  "alpha_pattern",
  "layers_to_transform",
  "layers_pattern",
  "layer_replication",
  "megatron_config",
  "target_parameters",
  "trainable_token_indices",
  "exclude_modules",
  "loftq_config",
  "eva_config",
  "corda_config",
  "alora_invocation_tokens",
  "ensure_weight_tying",
];

/** Initial values only; PiSSA, OLoRA, CorDA and LoftQ instead change the base weights, which the adapter then does not fit. */
const plainInitialisations: readonly unknown[] = [undefined, true, false, "gaussian", "orthogonal"];

/** Of no consequence for what a finished adapter computes. */
const withoutEffect = new Set([
  "auto_mapping",
  "bias",
  "inference_mode",
  "init_lora_weights",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
]);

/**
 * Reads the fields of an adapter_config.json; those unknown here are noted, those known and not supported are refused.
 *
 * @throws PolypacaError `BAD_CHECKPOINT` for a field that is missing or malformed, `UNSUPPORTED` for what polypaca does not do
 */
export function parseAdapterConfig(config: Readonly<Record<string, unknown>>, where: string): AdapterConfig {
  const { peft_type: kind } = config;
  if (kind !== undefined && kind !== "LORA") throw refused(where, "peft_type", kind, '"LORA"');
  const parsed = schema.safeParse(config);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new PolypacaError(
      "BAD_CHECKPOINT",
      `${where}: "${issue?.path.join(".")}": ${issue?.message}. Use the file that PEFT wrote beside the adapter's weights.`,
    );
  }
  refuseUnsupported(config, where);
  const { r, lora_alpha: alpha, use_rslora: isRankStabilised, ...fields } = parsed.data;
  const known = new Set([...Object.keys(schema.shape), ...mustBeUnset, ...withoutEffect]);
  const unknown = Object.keys(config).filter((field) => !known.has(field));
  return {
    rank: r,
    alpha,
    scaling: isRankStabilised ? alpha / Math.sqrt(r) : alpha / r,
    dropout: fields.lora_dropout,
    baseModel: fields.base_model_name_or_path ?? null,
    targetModules: fields.target_modules ?? null,
    notes: unknown.length > 0 ? [`${where}: not known to polypaca and not used: ${unknown.join(", ")}.`] : [],
  };
}

function refuseUnsupported(config: Readonly<Record<string, unknown>>, where: string): void {
  for (const field of mustBeUnset) {
    if (config[field] !== undefined && !isUnset(config[field])) throw refused(where, field, config[field], "null, false or empty");
  }
  const { bias = "none", task_type: task = null, init_lora_weights: initialisation } = config;
  if (bias !== "none") throw refused(where, "bias", bias, '"none"');
  if (task !== null && task !== "CAUSAL_LM") throw refused(where, "task_type", task, '"CAUSAL_LM"');
  if (!plainInitialisations.includes(initialisation))
    throw refused(where, "init_lora_weights", initialisation, "true, false, gaussian, orthogonal");
}

function refused(where: string, field: string, value: unknown, supported: string): PolypacaError {
  return new PolypacaError(
    "UNSUPPORTED",
    `${where}: "${field}" is ${JSON.stringify(value)}; polypaca reads adapters with ${supported} there.`,
  );
}

/** adapter_config.json as PEFT writes it: keys sorted, two spaces, no line break at the end. */
export function adapterConfigText(lora: LoraOptions, baseModel: string | null): string {
  const isRankStabilised = lora.rank > 1 && lora.scaling === lora.alpha / Math.sqrt(lora.rank);
  const config = {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: lora.alpha,
    lora_dropout: lora.dropout,
    megatron_config: null,
    megatron_core: "megatron.core",
    modules_to_save: null,
    peft_type: "LORA",
    r: lora.rank,
    rank_pattern: {},
    revision: null,
    target_modules: [...lora.targets].sort(), // a set to PEFT: a resumed run writes the same file
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: isRankStabilised,
  };
  return JSON.stringify(config, null, 2);
}
