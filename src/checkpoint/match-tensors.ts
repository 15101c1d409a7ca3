/** Fits the tensors found in a checkpoint to those a model is made of. */
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { familyOf } from "../families/index.js";
import { expectedTensors } from "../families/parameters.js";
import type { TensorSource } from "../native/addon-types.js";
import { asTensorSource, type StoredTensor } from "./stored-tensor.js";

/** Names listed in a message before "and n more". */
const listed = 5;

/**
 * The sources of all the model's tensors, by the model's names and in its order. Names without the base model's prefix
 * ("h.0.…" for "transformer.h.0.…") are taken for the full ones; buffers of old releases and a tied head are left out.
 *
 * @throws PolypacaError `CHECKPOINT_MISMATCH` naming tensors that are missing, left over or of another shape than config.json says;
 *   `BAD_CHECKPOINT` for a tensor that stands in two files or has elements that are no floating-point weights
 */
export function matchTensors(spec: DecoderSpec, stored: readonly StoredTensor[], dir: string): TensorSource[] {
  const expected = new Map(expectedTensors(spec).map((tensor) => [tensor.name, tensor.shape]));
  const found = new Map<string, StoredTensor>();
  const unexpected: string[] = [];
  for (const tensor of stored) {
    const name = modelName(spec, tensor.name, expected);
    if (name === "ignored") continue;
    if (name === undefined) {
      unexpected.push(tensor.name);
      continue;
    }
    const other = found.get(name);
    if (other)
      throw new PolypacaError(
        "BAD_CHECKPOINT",
        `${dir}: "${name}" stands twice, in ${other.file} and in ${tensor.file}. Copy or download the checkpoint again.`,
      );
    found.set(name, tensor);
  }
  refuseMissing(
    spec,
    [...expected.keys()].filter((name) => !found.has(name)),
    dir,
  );
  refuseUnexpected(spec, unexpected, dir);
  return [...expected].map(([name, shape]) => {
    const tensor = found.get(name)!;
    refuseShape(spec, tensor, name, shape);
    return { ...asTensorSource(tensor), name };
  });
}

/** The model's name of a stored tensor; undefined where it has none. */
function modelName(spec: DecoderSpec, name: string, expected: ReadonlyMap<string, unknown>): string | "ignored" | undefined {
  const { basePrefix, headName, bufferNames } = familyOf(spec.modelType, "checkpoint");
  if (expected.has(name)) return name;
  if (expected.has(basePrefix + name)) return basePrefix + name;
  if (bufferNames.test(name) || (spec.head === "tied" && name === `${headName}.weight`)) return "ignored";
  return undefined;
}

function refuseMissing({ modelType, layers }: DecoderSpec, names: readonly string[], dir: string): void {
  if (names.length === 0) return;
  throw new PolypacaError(
    "CHECKPOINT_MISMATCH",
    `${dir}: ${count(names.length, "tensor")} that config.json (${modelType}, ${layers} layers) asks for ${names.length === 1 ? "is" : "are"} missing: ${list(names)}. Use the config.json published with these weights.`,
  );
}

function refuseUnexpected({ modelType, layers }: DecoderSpec, names: readonly string[], dir: string): void {
  if (names.length === 0) return;
  throw new PolypacaError(
    "CHECKPOINT_MISMATCH",
    `${dir}: ${count(names.length, "tensor")} ${names.length === 1 ? "belongs" : "belong"} to no part of the model that config.json describes (${modelType}, ${layers} layers): ${list(names)}. Use the config.json published with these weights.`,
  );
}

function refuseShape(spec: DecoderSpec, tensor: StoredTensor, name: string, shape: readonly number[]): void {
  if (tensor.shape.length === shape.length && shape.every((size, axis) => size === tensor.shape[axis])) return;
  const isVocabulary = name === `${spec.names.embedding}.weight` || name === `${spec.names.head}.weight`;
  const field =
    isVocabulary && tensor.shape[0] !== spec.vocabSize
      ? ` ("vocab_size" is ${spec.vocabSize}, the weights have ${tensor.shape[0]} rows)`
      : "";
  throw new PolypacaError(
    "CHECKPOINT_MISMATCH",
    `${tensor.file}: "${tensor.name}" is [${tensor.shape.join(", ")}], config.json says [${shape.join(", ")}]${field}. Use the config.json published with these weights.`,
  );
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, listed).map((name) => `"${name}"`);
  return shown.join(", ") + (names.length > listed ? ` and ${names.length - listed} more` : "");
}
