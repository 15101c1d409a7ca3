/** LoRA adapters in PEFT's form: adapter_config.json and adapter_model.safetensors (or .bin). */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { LoraOptions, NativeModel, TensorSource } from "../native/addon-types.js";
import { type AdapterConfig, adapterConfigText, parseAdapterConfig } from "./adapter-config.js";
import { writeFileSynced, writeFolderAtomic } from "./atomic.js";
import { readJsonObject } from "./json-file.js";
import { readSafetensors, safetensorsHeader } from "./safetensors.js";
import { asTensorSource } from "./stored-tensor.js";
import { readTorchBin } from "./torch-bin.js";

const configFile = "adapter_config.json";
const weightsFile = "adapter_model.safetensors";
const torchWeightsFile = "adapter_model.bin";

/** An adapter on disk that was found sound. */
export interface AdapterFolder {
  readonly dir: string;
  /** `targets` are the modules the weights file has tensors for, by the end of their names; `seed` is 0. */
  readonly lora: LoraOptions;
  /** A [rank, in] and B [out, rank] of every module, by PEFT's names. */
  readonly sources: readonly TensorSource[];
  /** What the adapter says it was made for. */
  readonly baseModel: string | null;
  /** For the user to know; nothing is wrong. */
  readonly notes: readonly string[];
}

/**
 * Reads an adapter folder; safetensors is preferred where both forms are there.
 *
 * @throws PolypacaError `NOT_FOUND`; `BAD_CHECKPOINT` for damaged files; `UNSUPPORTED` for kinds of adapter other than LoRA on linear
 *   layers; `CHECKPOINT_MISMATCH` where the weights are not those that adapter_config.json describes
 */
export async function readAdapterFolder(dir: string): Promise<AdapterFolder> {
  const where = join(dir, configFile);
  if (!existsSync(where))
    throw new PolypacaError("NOT_FOUND", `${where}: no such file. An adapter folder has ${configFile} beside ${weightsFile}.`);
  const config = parseAdapterConfig(await readJsonObject(where), where);
  const sources = await readWeights(dir);
  const modules = checkPairs(dir, sources, config.rank);
  const notes = [...config.notes, ...checkTargets(where, config, modules)];
  const targets = [...new Set(modules.map((module) => module.slice(module.lastIndexOf(".") + 1)))].sort();
  const { rank, alpha, scaling, dropout, baseModel } = config;
  return { dir, lora: { rank, alpha, scaling, dropout, targets, seed: 0 }, sources, baseModel, notes };
}

async function readWeights(dir: string): Promise<TensorSource[]> {
  if (existsSync(join(dir, weightsFile))) return (await readSafetensors(join(dir, weightsFile))).sources;
  if (existsSync(join(dir, torchWeightsFile))) return (await readTorchBin(join(dir, torchWeightsFile))).map(asTensorSource);
  throw new PolypacaError("NOT_FOUND", `${dir}: no ${weightsFile} and no ${torchWeightsFile} beside ${configFile}.`);
}

/** The adapted modules, each of which must have an A and a B of the given rank, and nothing else. */
function checkPairs(dir: string, sources: readonly TensorSource[], rank: number): string[] {
  const modules = new Map<string, Set<string>>();
  for (const { name, file, shape } of sources) {
    const [, module, which] = /^base_model\.model\.(.+)\.(lora_A|lora_B)\.weight$/.exec(name) ?? [];
    if (module === undefined || which === undefined) {
      throw new PolypacaError(
        "UNSUPPORTED",
        `${file}: "${name}" is not the lora_A or lora_B of a linear layer, and polypaca adapts nothing else.`,
      );
    }
    const ranks = which === "lora_A" ? shape[0] : shape[1];
    if (shape.length !== 2 || ranks !== rank) {
      throw new PolypacaError(
        "CHECKPOINT_MISMATCH",
        `${file}: "${name}" is [${shape.join(", ")}], but ${configFile} says rank ${rank}. Use the files of one adapter.`,
      );
    }
    modules.set(module, (modules.get(module) ?? new Set()).add(which));
  }
  for (const [module, parts] of modules) {
    if (parts.size === 2) continue;
    throw new PolypacaError(
      "CHECKPOINT_MISMATCH",
      `${dir}: the adapter of "${module}" has a ${[...parts][0]} only. Copy or download the adapter again.`,
    );
  }
  if (modules.size === 0) throw new PolypacaError("CHECKPOINT_MISMATCH", `${dir}: the weights file holds no tensors.`);
  return [...modules.keys()];
}

/** The weights decide what is adapted; what `target_modules` says must agree with them. Gives notes. */
function checkTargets(where: string, { targetModules }: AdapterConfig, modules: readonly string[]): string[] {
  if (targetModules === null || targetModules === "all-linear") return [];
  if (typeof targetModules === "string") return checkPattern(where, targetModules, modules);
  const isNamed = (module: string, target: string): boolean => module === target || module.endsWith(`.${target}`);
  const idle = targetModules.find((target) => !modules.some((module) => isNamed(module, target)));
  if (idle !== undefined) throw mismatch(where, `names "${idle}", for which there are no weights`);
  const unnamed = modules.find((module) => !targetModules.some((target) => isNamed(module, target)));
  if (unnamed !== undefined) throw mismatch(where, `does not name "${unnamed}", for which there are weights`);
  return [];
}

/** PEFT takes a string for a regular expression (Python's) of whole module names. */
function checkPattern(where: string, pattern: string, modules: readonly string[]): string[] {
  let expression: RegExp;
  try {
    expression = new RegExp(`^(?:${pattern})$`);
  } catch {
    return [
      `${where}: "target_modules" is a regular expression that JavaScript does not understand; the modules are those the weights are for.`,
    ];
  }
  const unnamed = modules.find((module) => !expression.test(module));
  if (unnamed !== undefined) throw mismatch(where, `does not match "${unnamed}", for which there are weights`);
  return [];
}

function mismatch(where: string, what: string): PolypacaError {
  return new PolypacaError("CHECKPOINT_MISMATCH", `${where}: "target_modules" ${what}. Use the files of one adapter.`);
}

/**
 * Writes a model's adapter as PEFT would: fp32, complete or absent.
 *
 * @param options `baseModel` goes to base_model_name_or_path
 * @throws PolypacaError `USAGE` where `dir` is not empty; `DISK_FULL`, `IO`
 */
export async function writeAdapterFolder(
  model: Pick<NativeModel, "tensors" | "write">,
  dir: string,
  options: { readonly lora: LoraOptions; readonly baseModel: string | null },
): Promise<void> {
  const tensors = model
    .tensors("adapter")
    .map(({ name, shape }) => ({ name, shape, dtype: "F32" as const }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const { header } = safetensorsHeader(tensors);
  await writeFolderAtomic(dir, async (folder) => {
    await writeFileSynced(join(folder, configFile), adapterConfigText(options.lora, options.baseModel));
    await model.write({ path: join(folder, weightsFile), header, tensors: tensors.map(({ name, dtype }) => ({ name, dtype })) });
  });
}
