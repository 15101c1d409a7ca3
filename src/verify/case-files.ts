/** The JSON files of a reference case, and its tensors. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { readJsonObject } from "../checkpoint/json-file.js";
import { readSafetensors } from "../checkpoint/safetensors.js";
import { readTensor } from "../checkpoint/stored-tensor.js";
import { PolypacaError } from "../errors.js";
import type { Batch } from "../native/addon-types.js";

const tokens = z.array(z.number().int());

/** Losses are in nats per target. The reference computed in fp32 and, for the `_float64` twins, in float64; both are compared. */
const lossFields = { loss_all: z.number(), loss_response: z.number(), loss_all_float64: z.number(), loss_response_float64: z.number() };

const gradNormFields = { grad_norm_response: z.number(), grad_norm_response_float64: z.number() };

const caseSchema = z.looseObject({
  input_ids: z.array(tokens),
  labels_all: z.array(tokens),
  labels_response: z.array(tokens),
  n_targets_all: z.number(),
  n_targets_response: z.number(),
  ...lossFields,
  loss_sum_all_per_sequence: z.array(z.number()),
  loss_sum_response_per_sequence: z.array(z.number()),
  ...gradNormFields,
  zero_by_mathematics: z.record(z.string(), z.unknown()),
  lora: z
    .looseObject({
      r: z.number(),
      scaling: z.number(),
      ...lossFields,
      merged_loss_all: z.number(),
      merged_loss_response: z.number(),
      grad_norm_response: z.number(),
    })
    .optional(),
});

const curveSchema = z.looseObject({
  weight_decay: z.number(),
  lr: z.array(z.number()),
  loss: z.array(z.number()),
  loss_float64: z.array(z.number()),
  grad_norm: z.array(z.number()),
  grad_norm_float64: z.array(z.number()),
  final: z.record(z.string(), z.looseObject({ l2: z.number(), l2_float64: z.number() })),
});

const trainSchema = z.looseObject({
  setup: z.looseObject({ max_grad_norm: z.number() }),
  optimizer: z.looseObject({ beta1: z.number(), beta2: z.number(), eps: z.number() }),
  stream: z.array(z.looseObject({ input_ids: z.array(tokens), labels: z.array(tokens) })),
  curves: z.record(z.string(), curveSchema),
});

const generateSchema = z.looseObject({
  cases: z.array(
    z.looseObject({
      kind: z.string(),
      prompt: tokens,
      max_new_tokens: z.number(),
      num_beams: z.number(),
      no_repeat_ngram_size: z.number(),
      repetition_penalty: z.number().nullable(),
      eos_token_id: z.number(),
      eos_suppressed: z.boolean(),
      new_tokens: tokens,
      beams: z.array(z.looseObject({ new_tokens: tokens, score: z.number() })).optional(),
      all_beams_stable_under_noise: z.boolean().optional(),
    }),
  ),
});

const expectSchema = z.looseObject({ base: z.string(), loss_all: z.number(), loss_response: z.number() });

export type ReferenceCase = z.infer<typeof caseSchema>;
export type ReferenceTraining = z.infer<typeof trainSchema>;
export type ReferenceCurve = z.infer<typeof curveSchema>;
export type ReferenceGeneration = z.infer<typeof generateSchema>["cases"][number];
export type ReferenceVariant = z.infer<typeof expectSchema>;

export const readCase = (dir: string): Promise<ReferenceCase> => readAs(caseSchema, join(dir, "case.json"));
export const readTraining = (dir: string): Promise<ReferenceTraining> => readAs(trainSchema, join(dir, "train.json"));
export const readGeneration = async (dir: string): Promise<ReferenceGeneration[]> =>
  (await readAs(generateSchema, join(dir, "generate.json"))).cases;
export const readVariant = (dir: string): Promise<ReferenceVariant> => readAs(expectSchema, join(dir, "expect.json"));

export function hasFile(dir: string, name: string): boolean {
  return existsSync(join(dir, name));
}

async function readAs<Schema extends z.ZodType>(schema: Schema, path: string): Promise<z.infer<Schema>> {
  const parsed = schema.safeParse(await readJsonObject(path));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new PolypacaError(
    "BAD_DATA",
    `${path}: "${issue?.path.join(".")}": ${issue?.message}. Expected a reference case as test/goldens/README.md describes it.`,
  );
}

/** All tensors of a reference file, by name. */
export async function readTensors(path: string): Promise<Map<string, Float32Array>> {
  const { sources } = await readSafetensors(path);
  const tensors = new Map<string, Float32Array>();
  for (const source of sources) tensors.set(source.name, (await readTensor(source)).data);
  return tensors;
}

/** Sequences laid end to end. */
export function pack(inputIds: readonly (readonly number[])[], labels: readonly (readonly number[])[]): Batch {
  return {
    inputIds: Int32Array.from(inputIds.flat()),
    labels: Int32Array.from(labels.flat()),
    sequenceLengths: Int32Array.from(inputIds, (sequence) => sequence.length),
  };
}

/** Labels that count: neither -100 nor a sequence's first, which no position predicts. */
export function countTargets(labels: readonly (readonly number[])[]): number {
  return labels.flatMap((sequence) => sequence.slice(1)).filter((label) => label !== -100).length;
}
