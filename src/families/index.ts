/** The registry of model families: config.json in, a decoder's description out. */
import { PolypacaError } from "../errors.js";
import { baichuan } from "./baichuan.js";
import { bloom } from "./bloom.js";
import type { DecoderSpec } from "./decoder-spec.js";
import type { ModelConfig, ModelFamily, ModelShape } from "./family.js";
import { gptNeox } from "./gpt-neox.js";
import { llama } from "./llama.js";

/** A new family is a file of its own and a line here. */
export const families: readonly ModelFamily[] = [bloom, gptNeox, llama, baichuan];

/** Values of `model_type` that polypaca runs; also of `--arch`. */
export const supportedModelTypes: readonly string[] = families.map(({ modelType }) => modelType);

/** The largest head the attention kernels take. */
const maxHeadDim = 256;

/** @throws PolypacaError `UNSUPPORTED` that names the type and lists those supported */
export function familyOf(modelType: string, where: string): ModelFamily {
  const family = families.find((candidate) => candidate.modelType === modelType);
  if (family) return family;
  throw new PolypacaError(
    "UNSUPPORTED",
    `${where}: "${modelType}" is not a model type polypaca runs. Supported: ${supportedModelTypes.join(", ")} (OpenLLaMA is llama, Pythia gpt_neox).`,
  );
}

/**
 * Describes the model of a config.json.
 *
 * @param config the parsed file
 * @param where its path, for messages
 * @throws PolypacaError `UNSUPPORTED` for another `model_type`, scaled RoPE, quantised weights or an unknown activation; `BAD_CONFIG`
 *   for a field that is missing or of the wrong kind, or sizes that contradict each other
 */
export function decoderSpecFromConfig(config: unknown, where: string): DecoderSpec {
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw new PolypacaError("BAD_CONFIG", `${where}: expected a JSON object with the model's settings.`);
  }
  const { model_type: modelType, quantization_config: quantization } = config as ModelConfig;
  if (typeof modelType !== "string") {
    throw new PolypacaError("BAD_CONFIG", `${where}: "model_type" is missing. Supported: ${supportedModelTypes.join(", ")}.`);
  }
  const family = familyOf(modelType, where);
  if (quantization !== undefined && quantization !== null) {
    throw new PolypacaError(
      "UNSUPPORTED",
      `${where}: "quantization_config" is set: these weights are quantised. Use a checkpoint in fp32, bf16 or fp16.`,
    );
  }
  const spec = family.spec(config, where);
  checkSizes(spec, where);
  return spec;
}

function checkSizes({ heads, kvHeads, headDim, positions }: DecoderSpec, where: string): void {
  const refuse = (what: string): never => {
    throw new PolypacaError("BAD_CONFIG", `${where}: ${what}. Use the config.json published with these weights.`);
  };
  if (heads % kvHeads !== 0)
    refuse(`the number of attention heads, ${heads}, is not a multiple of the number of key/value heads, ${kvHeads}`);
  if (headDim > maxHeadDim)
    throw new PolypacaError("UNSUPPORTED", `${where}: heads of ${headDim} dimensions; polypaca supports up to ${maxHeadDim}.`);
  if (positions.kind === "rope" && (positions.rotaryDim < 2 || positions.rotaryDim % 2 !== 0 || positions.rotaryDim > headDim)) {
    refuse(`RoPE over ${positions.rotaryDim} of ${headDim} dimensions of a head; it must be an even number from 2 up to the head's size`);
  }
}

/**
 * A config.json for a new model of the given shape.
 *
 * @param modelType one of `supportedModelTypes`
 * @throws PolypacaError `UNSUPPORTED`, `INVALID_ARGUMENT`, `BAD_CONFIG` where the sizes contradict each other
 */
export function configFromShape(modelType: string, shape: ModelShape): ModelConfig {
  const family = familyOf(modelType, "--arch");
  const { kvHeads = shape.heads } = shape;
  if (kvHeads !== shape.heads && family !== llama) {
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `--kv-heads ${kvHeads}: ${modelType} has as many key/value heads as attention heads (${shape.heads}).`,
    );
  }
  const config = family.config(shape);
  decoderSpecFromConfig(config, `--arch ${modelType}`);
  return config;
}

/** Fields of config.json that set a dropout of the model itself, with their values where not zero. */
export function modelDropout(config: ModelConfig): readonly { readonly field: string; readonly value: number }[] {
  // classifier_dropout, which GPT-NeoX configs carry, belongs to a head that language modelling does not have.
  const names = [
    "hidden_dropout",
    "attention_dropout",
    "embedding_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
  ];
  return names.flatMap((field) => {
    const value = config[field];
    return typeof value === "number" && value !== 0 ? [{ field, value }] : [];
  });
}

/**
 * Training applies no dropout inside the model, so a config that asks for some is refused rather than quietly ignored.
 *
 * @throws PolypacaError `UNSUPPORTED` naming the fields
 */
export function refuseModelDropout(config: ModelConfig, where: string): void {
  const found = modelDropout(config);
  if (found.length === 0) return;
  const fields = found.map(({ field, value }) => `"${field}" is ${value}`).join(", ");
  throw new PolypacaError(
    "UNSUPPORTED",
    `${where}: ${fields}; polypaca trains without dropout inside the model. Set it to 0 there (--lora-dropout is separate).`,
  );
}

export type { DecoderSpec } from "./decoder-spec.js";
export type { ModelConfig, ModelFamily, ModelShape } from "./family.js";
