/** A session on the toy trainer of toy-run.ts: everything of a run but the model is real. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adamW } from "../../src/train/presets.js";
import { resolveSettings } from "../../src/train/resolve-settings.js";
import type { RunRecord } from "../../src/train/run-folder.js";
import type { SessionParts, TrainEnvironment, Trainee } from "../../src/train/session.js";
import type { SomeSettings } from "../../src/train/settings.js";
import { ToyTrainer, toyBatch } from "./toy-run.js";

const stepsPerEpoch = 5;

export class ToyTrainee extends ToyTrainer implements Trainee {
  /** Called at moments when a kill could come. */
  moment: () => void = () => {};

  override step(...step: Parameters<ToyTrainer["step"]>): ReturnType<ToyTrainer["step"]> {
    this.moment();
    return super.step(...step);
  }

  async saveWeights(folder: string): Promise<void> {
    this.moment();
    writeFileSync(join(folder, "weights"), String(this.weight));
    this.moment();
  }

  async saveState(folder: string): Promise<void> {
    this.save(folder);
    this.moment();
  }

  readonly validationLoss = async (): Promise<number> => {
    this.moment();
    return Math.abs(this.weight - 4);
  };

  peakMemoryBytes(): number {
    return 1;
  }

  async dispose(): Promise<void> {}
}

export function toyRecord(settings: SomeSettings = {}): RunRecord {
  const resolved = resolveSettings(
    { model: "base", data: ["toy.json"], out: "runs/toy", method: "fft" },
    { evalEvery: 2, saveEvery: 3, saveTotalLimit: 1, warmupSteps: 0, learningRate: 0.1, ...settings },
  );
  const steps = resolved.maxSteps ?? 8;
  return {
    version: "0.1.0",
    createdAt: "2026-01-01T00:00:00.000Z",
    settings: resolved,
    assumed: [],
    resolved: {
      ...{ device: "cpu", dtype: "fp32", loraTargets: null, microBatchTokens: 512, steps, stepsPerEpoch, warmupSteps: 0 },
      ...{ trainingExamples: 15, validationExamples: 3 },
    },
    optimizer: adamW,
    data: [{ file: "toy.json", bytes: 10, sha256: "d" }],
    validationData: [],
    model: { folder: "base", fingerprint: "m" },
    tokenizer: "t",
    template: { prompt_input: "{instruction}{input}>", prompt_no_input: "{instruction}>", response_split: ">" },
    machine: {
      ...{
        isa: "avx2",
        bf16Dot: false,
        amxBf16: false,
        gemm: "portable",
        onednn: "",
        threads: 2,
        fastText: false,
        memoryAvailable: 1,
        memoryTotal: 1,
      },
      ...{ memoryLimitedBy: "free memory", cuda: "not built", cudaDevices: [], cudaEmulator: false, host: "h", node: "v20" },
    },
    memory: { weights: 1, gradients: 1, optimizer: 1, activations: 1, head: 1, scratch: 1, total: 6 },
  };
}

const silent = { update: () => {}, note: () => {}, stop: () => {} };

export function toySession(
  out: string,
  trainee: ToyTrainee,
  environment: Partial<TrainEnvironment> = {},
  settings: SomeSettings = {},
): SessionParts {
  const record = toyRecord({ out, ...settings });
  return {
    settings: record.settings,
    record,
    schedule: { scheduler: "linear", peak: 0.2, warmupSteps: 2, steps: record.resolved.steps },
    checkpointBytes: { weights: 20, state: 40 },
    loadTrainee: async (checkpoint) => {
      if (checkpoint !== null) trainee.restore(checkpoint);
      return trainee;
    },
    batch: (step) => toyBatch([step % stepsPerEpoch, (3 * step) % 7, 1]),
    environment: { now: () => 1_700_000_000_000, note: () => {}, openProgress: () => silent, ...environment },
  };
}

/** What a run comes to: everything but the time it took. */
export function outcome(out: string): object {
  const read = (path: string): string => readFileSync(join(out, path), "utf8");
  return {
    weights: read("last/weights"),
    state: read("last/state.safetensors"),
    trainerState: read("last/trainer_state.json"),
    best: read("best/weights"),
    metrics: read("metrics.jsonl"),
    events: readFileSync(join(out, "events.out.tfevents.polypaca")).toString("base64"),
  };
}
