/** Who answers: the run a model or adapter comes from, and the prompt template it was tuned with. */
import { existsSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { alpacaTemplates, type PromptTemplate, readTemplate } from "../data/index.js";
import { PolypacaError } from "../errors.js";
import { readRunRecord } from "../train/run-folder.js";
import { templateFileName } from "../train/template-file.js";

export interface SystemDescription {
  /** The run folder's name; without one, the folder's own. */
  readonly system: string;
  /** Name of the base model. */
  readonly model: string;
  readonly method: "lora" | "fft" | "base";
  readonly seed: number | null;
}

/**
 * @param model folder of the model
 * @param adapter folder of its adapter; null: none
 */
export async function describeSystem(model: string, adapter: string | null): Promise<SystemDescription> {
  const folder = await realpath(adapter ?? model).catch((cause: unknown) => {
    const flag = adapter === null ? "--model" : "--adapter";
    throw new PolypacaError("NOT_FOUND", `${flag} ${adapter ?? model}: there is no such folder.`, { cause });
  });
  const run = dirname(dirname(folder)); // <run>/checkpoints/step-<n>
  const record = basename(dirname(folder)) === "checkpoints" ? await readRunRecord(run) : null;
  if (record === null) {
    return { system: basename(folder), model: basename(resolve(model)), method: adapter === null ? "base" : "lora", seed: null };
  }
  const { settings } = record;
  return { system: basename(run), model: basename(resolve(settings.model)), method: settings.method, seed: settings.seed };
}

/** `file` where given; else the template that came with the adapter or model; else the Alpaca template of the method. */
export async function templateFor(
  system: SystemDescription,
  folders: { readonly model: string; readonly adapter: string | null },
  file: string | null,
): Promise<PromptTemplate> {
  if (file !== null) return await readTemplate(file);
  const carried = join(folders.adapter ?? folders.model, templateFileName);
  if (existsSync(carried)) return await readTemplate(carried);
  return alpacaTemplates[system.method === "lora" ? "lora" : "fft"];
}
