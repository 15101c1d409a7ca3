/** A grid as it is worked with: every default filled in, models with what is known of them. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { readModelConfig } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import { type DecoderSpec, decoderSpecFromConfig } from "../families/index.js";
import { parameterCount } from "../families/parameters.js";
import { modelPresets, presetConfig } from "../families/presets.js";
import { factsByName, parseParameters } from "../report/model-sizes.js";
import { readConfigFile } from "../settings/config-file.js";
import { checkGrid, type GridFile } from "./grid-settings.js";

export interface GridModel {
  readonly name: string;
  readonly path: string;
  /** null: there is no such folder, and no preset of that name. */
  readonly spec: DecoderSpec | null;
  /** False: the shape is that of the preset of this name. */
  readonly isThere: boolean;
  /** For figures. */
  readonly family: string;
  readonly parameters: number;
}

export type Grid = Omit<GridFile, "models" | "modelsDir" | "jobsDir" | "seeds" | "validation" | "judge"> & {
  readonly jobsDir: string;
  readonly models: readonly GridModel[];
  readonly seeds: readonly number[];
  readonly validation: "own" | "shared";
  readonly judge: NonNullable<GridFile["judge"]> | null;
};

/** Settings of the file that the command line replaces. */
export type GridOverrides = Partial<Pick<GridFile, "out" | "jobsDir" | "modelsDir" | "dataDir" | "promptsDir">>;

/** As the study's. */
const defaultSeeds = [42];

/**
 * Reads a grid. Relative paths in it are relative to the working directory, as on the command line. Models that are not there yet get the
 * shape of the preset of their name, so that the grid can be planned.
 *
 * @throws PolypacaError `NOT_FOUND`, `IO`; `BAD_CONFIG` with every error found, by line and column; as `decoderSpecFromConfig` does
 */
export async function readGrid(file: string, overrides: GridOverrides = {}): Promise<Grid> {
  const content = await readConfigFile(file, checkGrid, `the grid ${file}`);
  if (!isGridFile(content)) throw new PolypacaError("BAD_CONFIG", `${file}: is empty. Describe a grid in it: see docs/experiment.md.`);
  return await resolveGrid({ ...content, ...definedOf(overrides) });
}

function isGridFile(content: GridFile | Record<string, never>): content is GridFile {
  return Object.keys(content).length > 0;
}

function definedOf(overrides: GridOverrides): GridOverrides {
  return Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
}

export async function resolveGrid({ models, modelsDir = "models", ...content }: GridFile): Promise<Grid> {
  const { seeds = defaultSeeds, validation = "own", judge = null, jobsDir = join(content.out, "jobs") } = content;
  return {
    ...content,
    ...{ seeds, validation },
    ...(content.train !== undefined && { train: absoluteTemplates(content.train) }),
    ...(content.score !== undefined && { score: absolute(content.score, "lidModel") }),
    ...(content.likelihood !== undefined && { likelihood: absolute(content.likelihood, "dataDir") }),
    judge: judge && absolute(judge, "promptFile"),
    ...{ out: resolve(content.out), jobsDir: resolve(jobsDir), dataDir: resolve(content.dataDir), promptsDir: resolve(content.promptsDir) },
    models: await Promise.all(models.map((model) => describeModel(typeof model === "string" ? { name: model } : model, modelsDir))),
  };
}

/** Jobs may run in other working directories than the one that the paths were written for. */
function absolute<Name extends string, Settings extends { readonly [name in Name]?: string | null | undefined }>(
  settings: Settings,
  name: Name,
): Settings {
  const path: string | null | undefined = settings[name];
  return typeof path === "string" ? { ...settings, [name]: resolve(path) } : settings;
}

function absoluteTemplates(train: NonNullable<GridFile["train"]>): NonNullable<GridFile["train"]> {
  const { lora, fft, ...common } = absolute(train, "template");
  return { ...common, ...(lora && { lora: absolute(lora, "template") }), ...(fft && { fft: absolute(fft, "template") }) };
}

async function describeModel(model: Exclude<GridFile["models"][number], string>, modelsDir: string): Promise<GridModel> {
  const { name } = model;
  const path = resolve(model.path ?? join(modelsDir, name));
  const isThere = existsSync(join(path, "config.json"));
  const spec = isThere ? decoderSpecFromConfig(await readModelConfig(path), join(path, "config.json")) : presetSpec(name);
  const facts = factsByName(name);
  const family = model.family ?? facts?.family ?? spec?.modelType ?? "unknown";
  const given = model.parameters === undefined ? null : parseParameters(String(model.parameters));
  return { name, path, spec, isThere, family, parameters: given ?? facts?.parameters ?? (spec && parameterCount(spec)) ?? 1 };
}

function presetSpec(name: string): DecoderSpec | null {
  const preset = name.toLowerCase().replace(/-deduped$/, "");
  return Object.hasOwn(modelPresets, preset) ? decoderSpecFromConfig(presetConfig(preset), name) : null;
}
