/** What a model family contributes: how its config.json reads, how it is written, and the habits of its checkpoints. */
import { z } from "zod";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "./decoder-spec.js";

/** The contents of a config.json. */
export type ModelConfig = Readonly<Record<string, unknown>>;

/** Sizes a new model is asked for; families fill in the rest. */
export interface ModelShape {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  /** Default: `heads`. Only LLaMA may have fewer. */
  readonly kvHeads?: number;
  /** Default: 4 x hidden (BLOOM, GPT-NeoX), or 8/3 x hidden rounded up to a multiple of 256 (LLaMA, Baichuan). */
  readonly intermediate?: number;
  readonly vocab: number;
  /** Default: the family's. null: ALiBi, for Baichuan. */
  readonly maxPositions?: number | null;
  /** Default: the family's. */
  readonly bosTokenId?: number;
  readonly eosTokenId?: number;
  readonly padTokenId?: number;
}

/** Sizes of a new model as flags give them, each of which may be left out: to complete a shape, or to replace sizes of one. */
export interface ShapeFlags {
  readonly hidden?: number | undefined;
  readonly layers?: number | undefined;
  readonly heads?: number | undefined;
  readonly kvHeads?: number | undefined;
  readonly intermediate?: number | undefined;
  readonly vocab?: number | undefined;
}

/** The sizes that were given, and nothing else of `flags`. */
export function givenSizes({ hidden, layers, heads, kvHeads, intermediate, vocab }: ShapeFlags): Partial<ModelShape> {
  return {
    ...(hidden !== undefined && { hidden }),
    ...(layers !== undefined && { layers }),
    ...(heads !== undefined && { heads }),
    ...(kvHeads !== undefined && { kvHeads }),
    ...(intermediate !== undefined && { intermediate }),
    ...(vocab !== undefined && { vocab }),
  };
}

export interface ModelFamily {
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** Modules that the study's LoRA runs adapt, by the end of their name. */
  readonly studyLoraTargets: readonly string[];
  /** transformers' base_model_prefix: checkpoints of the bare decoder leave it out, and it is put back on reading. */
  readonly basePrefix: string;
  /** Where a checkpoint may hold an output head that is tied, and so is not read. */
  readonly headName: string;
  /** Buffers that older releases of transformers saved beside the weights. */
  readonly bufferNames: RegExp;
  /** @throws PolypacaError `BAD_CONFIG`, `UNSUPPORTED`, naming `where` and the field */
  spec(config: unknown, where: string): DecoderSpec;
  /** A config.json as transformers writes it. */
  config(shape: ModelShape): ModelConfig;
}

export const positiveInteger = z.number().int().positive();
export const positiveNumber = z.number().positive();

/** Reads config.json's fields of one family; further fields are none of its business. */
export function parseConfig<Schema extends z.ZodType>(schema: Schema, config: unknown, where: string): z.infer<Schema> {
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => {
    const value = path.reduce<unknown>(
      (at, key) => (typeof at === "object" && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined),
      config,
    );
    if (path.length === 0) return message;
    return value === undefined ? `"${path.join(".")}" is missing` : `"${path.join(".")}" is ${JSON.stringify(value)}: ${message}`;
  });
  throw new PolypacaError("BAD_CONFIG", `${where}: ${issues.join("; ")}. Use the config.json published with these weights.`);
}

/** A field that the family knows but polypaca does not run. */
export function unsupported(where: string, field: string, value: unknown, supported: string): PolypacaError {
  return new PolypacaError("UNSUPPORTED", `${where}: "${field}" is ${JSON.stringify(value)}; polypaca supports ${supported}.`);
}

/** One value from several spellings of a field. */
export function eitherField(config: Readonly<Record<string, unknown>>, names: readonly string[], where: string): number {
  const given = names.filter((name) => config[name] !== undefined && config[name] !== null);
  const values = new Set(given.map((name) => config[name]));
  if (values.size === 0) throw new PolypacaError("BAD_CONFIG", `${where}: "${names.join('" or "')}" is missing.`);
  if (values.size > 1) {
    throw new PolypacaError(
      "BAD_CONFIG",
      `${where}: ${given.map((name) => `"${name}" is ${JSON.stringify(config[name])}`).join(" but ")}. They mean the same: keep one.`,
    );
  }
  return config[given[0]!] as number;
}

/** hidden / heads, which must be whole. */
export function headDimension(hidden: number, heads: number, where: string): number {
  if (hidden % heads !== 0) {
    throw new PolypacaError(
      "BAD_CONFIG",
      `${where}: the hidden size ${hidden} is not a multiple of the number of attention heads, ${heads}.`,
    );
  }
  return hidden / heads;
}

/** LLaMA's rule for SwiGLU: two thirds of 4 x hidden, rounded up to a multiple of 256. */
export function swigluIntermediate(hidden: number): number {
  return 256 * Math.ceil(Math.floor((8 * hidden) / 3) / 256);
}

/** RoPE's settings as transformers 5 writes them; earlier versions have the fields of `legacy`. */
export const ropeParametersSchema = z
  .looseObject({
    rope_type: z.string().optional(),
    rope_theta: positiveNumber.optional(),
    partial_rotary_factor: positiveNumber.optional(),
  })
  .nullish();

/** Scaled RoPE is refused by name: running it unscaled would give wrong logits quietly. */
export function refuseScaledRope(config: { readonly rope_scaling?: unknown; readonly rope_parameters?: unknown }, where: string): void {
  for (const field of ["rope_scaling", "rope_parameters"] as const) {
    const value = (config[field] ?? { rope_type: "default" }) as { readonly rope_type?: unknown; readonly type?: unknown };
    // transformers 4 called the kind `type` at first; version 5 may leave it out of `rope_parameters`, never out of `rope_scaling`.
    const kind = value.rope_type ?? value.type ?? (field === "rope_parameters" ? "default" : undefined);
    if (kind !== "default") throw unsupported(where, field, value, "unscaled RoPE only (null)");
  }
}
