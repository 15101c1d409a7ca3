/** What a description implies about the checkpoint: its tensors, their number of values, and the modules LoRA can adapt. */
import { PolypacaError } from "../errors.js";
import { type DecoderSpec, partRows } from "./decoder-spec.js";
import { familyOf } from "./index.js";

export interface NamedShape {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A linear layer of a block as the checkpoint names it; `weight` is [outFeatures, inFeatures]. */
export interface LinearModule {
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly hasBias: boolean;
}

/** The linear modules of one block, in the order in which the forward pass meets them. */
export function linearModules(spec: DecoderSpec, layer: number): LinearModule[] {
  return [...attentionModules(spec, layer), ...mlpModules(spec, layer)];
}

function attentionModules(spec: DecoderSpec, layer: number): LinearModule[] {
  const { names, biases, hiddenSize } = spec;
  const rows = partRows(spec, "qkv");
  const qkv = names.qkv.map((name, i) => ({
    name: inLayer(name, layer),
    outFeatures: rows[i]!,
    inFeatures: hiddenSize,
    hasBias: biases.qkv,
  }));
  return [
    ...qkv,
    {
      name: inLayer(names.attentionOutput, layer),
      outFeatures: hiddenSize,
      inFeatures: spec.heads * spec.headDim,
      hasBias: biases.attentionOutput,
    },
  ];
}

function mlpModules(spec: DecoderSpec, layer: number): LinearModule[] {
  const { names, biases, hiddenSize, intermediateSize } = spec;
  const rows = partRows(spec, "mlpUp");
  const up = names.mlpUp.map((name, i) => ({
    name: inLayer(name, layer),
    outFeatures: rows[i]!,
    inFeatures: hiddenSize,
    hasBias: biases.mlp,
  }));
  return [...up, { name: inLayer(names.mlpDown, layer), outFeatures: hiddenSize, inFeatures: intermediateSize, hasBias: biases.mlp }];
}

function inLayer(name: string, layer: number): string {
  return name.replace("{layer}", String(layer));
}

/** Every tensor of a checkpoint of this model, in the order in which the forward pass meets them; a tied head is not among them. */
export function expectedTensors(spec: DecoderSpec): NamedShape[] {
  const { names, hiddenSize, vocabSize } = spec;
  const norm = (module: string): NamedShape[] =>
    (spec.norm === "layer" ? ["weight", "bias"] : ["weight"]).map((kind) => ({ name: `${module}.${kind}`, shape: [hiddenSize] }));
  const linear = ({ name, outFeatures, inFeatures, hasBias }: LinearModule): NamedShape[] => [
    { name: `${name}.weight`, shape: [outFeatures, inFeatures] },
    ...(hasBias ? [{ name: `${name}.bias`, shape: [outFeatures] }] : []),
  ];
  const tensors: NamedShape[] = [{ name: `${names.embedding}.weight`, shape: [vocabSize, hiddenSize] }];
  if (names.embeddingNorm !== null) tensors.push(...norm(names.embeddingNorm));
  for (let layer = 0; layer < spec.layers; layer++) {
    tensors.push(
      ...norm(inLayer(names.attentionNorm, layer)),
      ...attentionModules(spec, layer).flatMap(linear),
      ...norm(inLayer(names.mlpNorm, layer)),
      ...mlpModules(spec, layer).flatMap(linear),
    );
  }
  tensors.push(...norm(names.finalNorm));
  if (names.head !== null) tensors.push({ name: `${names.head}.weight`, shape: [vocabSize, hiddenSize] });
  return tensors;
}

/** Values in a tensor of this shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** All parameters; a tied head counts once. */
export function parameterCount(spec: DecoderSpec): number {
  return expectedTensors(spec).reduce((sum, { shape }) => sum + elementCount(shape), 0);
}

/** Parameters that multiply activations: the blocks' matrices and the output head (tied or not), without the embedding's look-up. */
export function matmulParameters(spec: DecoderSpec): number {
  const block = linearModules(spec, 0).reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
  return spec.layers * block + spec.vocabSize * spec.hiddenSize;
}

/** Modules that LoRA can adapt, by the end of their names: `query_key_value`, `q_proj`, … */
export function loraTargets(spec: DecoderSpec): string[] {
  return linearModules(spec, 0).map(({ name }) => name.slice(name.lastIndexOf(".") + 1));
}

/** The modules of the `paper-lora` preset: query, key and value. */
export function studyLoraTargets(spec: DecoderSpec): readonly string[] {
  return familyOf(spec.modelType, "model").studyLoraTargets;
}

/**
 * The modules that `targets` name, by PEFT's rule: a whole module path, or its end after a dot.
 *
 * @throws PolypacaError `INVALID_ARGUMENT` for a target that names none
 */
export function targetedModules(spec: DecoderSpec, targets: readonly string[]): LinearModule[] {
  const isNamed = (module: LinearModule, target: string): boolean => module.name === target || module.name.endsWith(`.${target}`);
  const modules = Array.from({ length: spec.layers }, (_, layer) => linearModules(spec, layer)).flat();
  const unknown = targets.filter((target) => !modules.some((module) => isNamed(module, target)));
  if (unknown.length > 0 || targets.length === 0) {
    const named = unknown.length > 0 ? `"${unknown.join('", "')}"` : "an empty list";
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `LoRA targets: ${named} names no linear module of this ${spec.modelType} model. Its modules: ${loraTargets(spec).join(", ")}.`,
    );
  }
  return modules.filter((module) => targets.some((target) => isNamed(module, target)));
}

/** A and B of every adapted module, by PEFT's names, in the order of the modules. */
export function adapterTensors(spec: DecoderSpec, lora: { readonly rank: number; readonly targets: readonly string[] }): NamedShape[] {
  return targetedModules(spec, lora.targets).flatMap(({ name, outFeatures, inFeatures }) => [
    { name: `base_model.model.${name}.lora_A.weight`, shape: [lora.rank, inFeatures] },
    { name: `base_model.model.${name}.lora_B.weight`, shape: [outFeatures, lora.rank] },
  ]);
}

/** Parameters of the adapters: rank x (in + out) per module. */
export function adapterParameterCount(spec: DecoderSpec, lora: { readonly rank: number; readonly targets: readonly string[] }): number {
  return adapterTensors(spec, lora).reduce((sum, { shape }) => sum + elementCount(shape), 0);
}
