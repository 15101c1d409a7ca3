/** The model and its adapters, opened: what requests may name. */
import { createHash } from "node:crypto";
import { readAdapterFolder } from "../checkpoint/adapter.js";
import { readModelConfig } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { decoderSpecFromConfig } from "../families/index.js";
import { ContinuousBatch } from "../generate/continuous-batch.js";
import { describeSystem } from "../generate/describe-system.js";
import { Model } from "../native/model.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/index.js";
import { fingerprintModel } from "../train/run-folder.js";
import type { SequenceEngine } from "./answer-sequence.js";
import { type ChatPrompt, openChatPrompt } from "./chat-prompt.js";
import type { NamedAdapter, ServeEnvironment, ServeSettings } from "./settings.js";

export interface ServedModel {
  /** As requests name it. */
  readonly id: string;
  /** The base model's name; null: it is the base. */
  readonly parent: string | null;
  /** As the engine names it; null: the model alone. */
  readonly adapter: string | null;
  readonly prompt: ChatPrompt;
  /** Changes with the weights and the way of computing. */
  readonly fingerprint: string;
}

export interface ServedModels {
  /** By name, the base first. */
  readonly models: ReadonlyMap<string, ServedModel>;
  readonly tokenizer: Tokenizer;
  readonly engine: SequenceEngine;
  /** Of the vocabulary that the model has. */
  readonly vocabSize: number;
  /** No token stands for more. */
  readonly longestTokenBytes: number;
  close(): Promise<void>;
}

export type OpenSettings = Pick<ServeSettings, "model" | "adapters" | "name" | "template" | "slots" | "maxLength" | "device" | "dtype">;

const defaultMaxLength = 2048;

/**
 * Everything small is read and checked before the weights are.
 *
 * @throws PolypacaError `USAGE`, `NOT_FOUND`, `BAD_CHECKPOINT`, `CHECKPOINT_MISMATCH`, `BAD_TEMPLATE`, `OUT_OF_MEMORY`, …
 */
export async function openServedModels(
  settings: OpenSettings,
  environment: Pick<ServeEnvironment, "note" | "date">,
): Promise<ServedModels> {
  const { model: dir, slots } = settings;
  const spec = decoderSpecFromConfig(await readModelConfig(dir), dir);
  const maxLength = checkMaxLength(settings.maxLength, spec);
  const tokenizer = await loadTokenizer(dir);
  for (const line of tokenizer.notes) environment.note(line);
  const plan = await planModels(settings, tokenizer, environment);
  const model = await Model.load(dir, { device: settings.device, ...(settings.dtype && { dtype: settings.dtype }) });
  try {
    for (const { name, dir } of settings.adapters) await model.loadAdapter(dir, name);
    const engine = await ContinuousBatch.open(model, { slots, maxLength });
    const models = plan.map((served) => ({ ...served, fingerprint: shortHash(`${served.fingerprint} ${model.dtype}`) }));
    const close = async (): Promise<void> => {
      await engine.close();
      await model.dispose();
    };
    return {
      ...{ models: new Map(models.map((served) => [served.id, served])), tokenizer, engine, close },
      ...{ vocabSize: spec.vocabSize, longestTokenBytes: longestToken(tokenizer) },
    };
  } catch (cause) {
    await model.dispose();
    throw cause;
  }
}

function checkMaxLength(given: number | null, { positions, maxPositions }: DecoderSpec): number {
  const most = positions.kind === "rope" && maxPositions !== null ? maxPositions : Number.POSITIVE_INFINITY;
  if (given === null) return Math.min(defaultMaxLength, most);
  if (given <= most) return given;
  throw new PolypacaError("USAGE", `--max-length ${given}: the model has ${most} positions. Use at most so many.`);
}

async function planModels(settings: OpenSettings, tokenizer: Tokenizer, { date }: Pick<ServeEnvironment, "date">): Promise<ServedModel[]> {
  const { model, adapters, template } = settings;
  const base = settings.name ?? (await describeSystem(model, null)).system;
  assertDistinct([base, ...adapters.map(({ name }) => name)]);
  const weights = await fingerprintModel(model);
  const models: ServedModel[] = [
    {
      ...{ id: base, parent: null, adapter: null, fingerprint: weights },
      prompt: await openChatPrompt({ model, adapter: null }, template, tokenizer, date),
    },
  ];
  for (const { name, dir } of adapters) {
    await readAdapterFolder(dir);
    const prompt = await openChatPrompt({ model, adapter: dir }, template, tokenizer, date);
    models.push({ id: name, parent: base, adapter: name, prompt, fingerprint: `${weights} ${await fingerprintModel(dir)}` });
  }
  return models;
}

function assertDistinct(names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) < index);
  if (twice === undefined) return;
  throw new PolypacaError("USAGE", `two models are called "${twice}". Name adapters by --adapter NAME=DIR, the base model by --name.`);
}

function longestToken(tokenizer: Tokenizer): number {
  let longest = 1;
  for (let id = 0; id < tokenizer.vocabSize; id++) longest = Math.max(longest, tokenizer.bytes(id).length);
  return longest;
}

function shortHash(text: string): string {
  return `fp_${createHash("sha256").update(text).digest("hex").slice(0, 10)}`;
}

/** @throws PolypacaError `USAGE` */
export function parseNamedAdapter(text: string): NamedAdapter {
  const [, name, dir] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name !== undefined && dir !== undefined) return { name, dir };
  throw new PolypacaError("USAGE", `--adapter ${text}: expected NAME=DIR, NAME being what requests give as "model".`);
}
