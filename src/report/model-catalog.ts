/** What is known of models and systems beyond their scores: a YAML file for what names do not tell. */
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import { factsByName, type ModelFacts, parseParameters } from "./model-sizes.js";
import type { DrawnSystem } from "./read-scores.js";

export interface ModelCatalog {
  readonly models: Readonly<Record<string, ModelFacts>>;
  /** Goes before what the scores say. */
  readonly systems: Readonly<Record<string, SystemFacts>>;
}

export interface SystemFacts {
  readonly model?: string | undefined;
  readonly method?: string | undefined;
  readonly condition?: string | undefined;
}

export const emptyCatalog: ModelCatalog = { models: {}, systems: {} };

/** A system with all that says where it stands in a figure. */
export interface DescribedSystem extends DrawnSystem, ModelFacts {
  readonly model: string;
  readonly method: string;
  readonly condition: string;
}

/** The condition under which untuned models (method "base") are drawn. */
export const untuned = "untuned";

const parameters = z.union([z.string(), z.number()]).transform((value, context) => {
  const number = parseParameters(String(value));
  if (number !== null) return number;
  context.addIssue({ code: "custom", message: `${JSON.stringify(value)} is no size: expected 560M, 1.1B or a number` });
  return z.NEVER;
});

const name = z.string().min(1);
const catalogSchema = z.strictObject({
  models: z.record(name, z.strictObject({ family: name, parameters })).default({}),
  systems: z.record(name, z.strictObject({ model: name.optional(), method: name.optional(), condition: name.optional() })).default({}),
});

/** @throws PolypacaError `NOT_FOUND`, `IO`; `BAD_CONFIG` naming the field that is wrong */
export async function readModelCatalog(file: string): Promise<ModelCatalog> {
  const content = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new PolypacaError(PolypacaError.from(cause).code, `--models ${file}: cannot be read (${(cause as Error).message}).`, { cause });
  });
  let value: unknown;
  try {
    value = parse(content);
  } catch (cause) {
    throw new PolypacaError("BAD_CONFIG", `${file}: not valid YAML: ${(cause as Error).message.split("\n")[0]}`, { cause });
  }
  const parsed = catalogSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path, message }) => `${file}: ${path.length > 0 ? `"${path.join(".")}": ` : ""}${message}`);
  throw new PolypacaError("BAD_CONFIG", `${lines.join("\n")}\nExpected:\n${catalogExample}`);
}

const catalogExample = [
  "models:",
  "  my-model: { family: BLOOM, parameters: 560M }",
  "systems:",
  "  my-run: { model: my-model, method: lora, condition: multilingual }",
].join("\n");

/** @throws PolypacaError `BAD_DATA` listing every system and model of which something is not known, with the lines that would tell it */
export function describeSystems(systems: readonly DrawnSystem[], catalog: ModelCatalog): DescribedSystem[] {
  const unknownSystems = new Map<string, readonly string[]>();
  const unknownModels = new Set<string>();
  const described: DescribedSystem[] = [];
  for (const system of systems) {
    const { model, method, condition } = placeOf(system, catalog);
    const missing = Object.entries({ model, method, condition }).flatMap(([field, value]) => (value === null ? [field] : []));
    const facts = model === null ? null : (ownProperty(catalog.models, model) ?? factsByName(model));
    if (missing.length > 0) unknownSystems.set(system.system, missing);
    if (model !== null && facts === null) unknownModels.add(model);
    if (model !== null && method !== null && condition !== null && facts !== null)
      described.push({ ...system, model, method, condition, ...facts });
  }
  if (unknownSystems.size + unknownModels.size > 0) throw notDescribed(unknownSystems, unknownModels);
  return described;
}

function placeOf(system: DrawnSystem, catalog: ModelCatalog): Record<"model" | "method" | "condition", string | null> {
  const told = ownProperty(catalog.systems, system.system);
  const method = told?.method ?? system.method;
  const condition = method === "base" ? untuned : (told?.condition ?? system.condition);
  return { model: told?.model ?? system.model, method, condition };
}

/** Names come from files: one may be "constructor". */
function ownProperty<Value>(record: Readonly<Record<string, Value>>, key: string): Value | null {
  return Object.hasOwn(record, key) ? record[key]! : null;
}

function notDescribed(systems: ReadonlyMap<string, readonly string[]>, models: ReadonlySet<string>): PolypacaError {
  const modelLines = [...models].map((model) => `  ${JSON.stringify(model)}: { family: ..., parameters: 560M }`);
  const systemLines = [...systems].map(
    ([system, fields]) => `  ${JSON.stringify(system)}: { ${fields.map((field) => `${field}: ...`).join(", ")} }`,
  );
  const what = [
    ...(models.size > 0 ? [`the size of ${[...models].map((model) => JSON.stringify(model)).join(", ")} is not known`] : []),
    ...[...systems].map(([system, fields]) => `nothing says the ${fields.join(" and ")} of system ${JSON.stringify(system)}`),
  ];
  const lines = [
    `${what.join("; ")}. Say it in a YAML file, passed with --models:`,
    ...(modelLines.length > 0 ? ["models:", ...modelLines] : []),
    ...(systemLines.length > 0 ? ["systems:", ...systemLines] : []),
  ];
  return new PolypacaError("BAD_DATA", lines.join("\n"));
}
