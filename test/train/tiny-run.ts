/** A BLOOM-shaped model small enough to train in a second, and a run on the bundled sample. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { initModel } from "../../src/models/init-model.js";
import { resolveSettings } from "../../src/train/resolve-settings.js";
import type { TrainEnvironment } from "../../src/train/session.js";
import type { SomeSettings, TrainSettings } from "../../src/train/settings.js";

export const sampleFolder = join(import.meta.dirname, "../../experiments/sample");

export async function makeTinyModel(out: string, arch: "bloom" | "gpt_neox" | "llama" | "baichuan" = "bloom"): Promise<string> {
  const shape = { hidden: 32, layers: 2, heads: 4, intermediate: arch === "bloom" ? undefined : 64 };
  const tokenizer = join(sampleFolder, "tokenizer.json");
  await initModel({ ...shape, arch, preset: null, tokenizer, seed: 1, dtype: "fp32", device: "cpu", out });
  return out;
}

/** 12 steps on 60 English records; evaluation every 4 steps, checkpoints every 3. */
export function tinySettings(model: string, out: string, changes: SomeSettings = {}): TrainSettings {
  return resolveSettings(
    {
      ...{ model, out, data: [join(sampleFolder, "alpaca.en.json")], method: "lora", dtype: "fp32", device: "cpu" },
      ...{ maxSteps: 12, batchSize: 8, microBatchTokens: 512, cutoff: 128, warmupSteps: 2, learningRate: 1e-2 },
      ...{ validationSize: 12, evalEvery: 4, saveEvery: 3 },
    },
    changes,
  );
}

export function quietEnvironment(parts: Partial<TrainEnvironment> = {}): TrainEnvironment {
  const progress = { update: () => {}, note: () => {}, stop: () => {} };
  return { now: () => 1_700_000_000_000, note: () => {}, openProgress: () => progress, ...parts };
}

/** SHA-256 of every file of a checkpoint but trainer_state.json, which also says how long steps took. */
export function checkpointHashes(folder: string): Record<string, string> {
  const names = readdirSync(folder).filter((name) => name !== "trainer_state.json");
  return Object.fromEntries(
    names.sort().map((name) => [
      name,
      createHash("sha256")
        .update(readFileSync(join(folder, name)))
        .digest("hex"),
    ]),
  );
}

export interface LoggedLine {
  readonly step: number;
  readonly loss?: number;
  readonly validationLoss?: number;
}

/** metrics.jsonl without what depends on time. */
export function loggedLines(run: string): LoggedLine[] {
  const path = join(run, "metrics.jsonl");
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => {
    const { seconds: _s, tokensPerSecond: _t, ...rest } = JSON.parse(line) as LoggedLine & { seconds?: number; tokensPerSecond?: number };
    return rest;
  });
}
