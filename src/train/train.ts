/** `train`: from settings to a finished run. Everything that can be refused is refused before the model is loaded. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { type Checkpoint, openCheckpoint } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import { refuseModelDropout } from "../families/index.js";
import { studyLoraTargets, targetedModules } from "../families/parameters.js";
import type { LoraOptions, MemoryPlan, TrainerOptions } from "../native/addon-types.js";
import { loadAddon, packageRoot } from "../native/load.js";
import { resolveDevice, resolveDType } from "../native/model.js";
import { chooseMicroBatch, type MicroBatchChoice } from "./memory.js";
import { adamW, trainPresets } from "./presets.js";
import { previewRun, type TrainPreview } from "./preview.js";
import type { RunContext } from "./run-context.js";
import {
  admitRun,
  assertUsableFolder,
  fingerprintModel,
  fingerprintTokenizer,
  hashFile,
  type RunRecord,
  readRunRecord,
} from "./run-folder.js";
import { type LockHolder, lockRun } from "./run-lock.js";
import { resolveWarmup, type Schedule, warmupWarning } from "./schedule.js";
import { runSession, type TrainEnvironment, type TrainSummary } from "./session.js";
import type { TrainSettings } from "./settings.js";
import { planSteps } from "./step-plan.js";
import { checkpointSizes, NativeTrainee, type TraineeOptions } from "./trainee.js";
import { prepareData } from "./training-data.js";

export type TrainResult =
  | { readonly kind: "trained"; readonly summary: TrainSummary }
  | { readonly kind: "preview"; readonly preview: TrainPreview; readonly text: string };

/**
 * Trains as `settings` say, starting or (with `resume`) going on with the run in `settings.out`; with `dryRun`, shows what would be
 * trained on and writes nothing.
 *
 * @throws PolypacaError `BAD_DATA`, `BAD_RECORD`, … for the data; `USAGE` for a run folder that may not be used, or settings the
 *   model cannot take; `RUN_LOCKED` where another process trains in that folder; `OUT_OF_MEMORY`, `DISK_FULL` before step 1;
 *   `NOT_FINITE`, `CANCELLED` as `runSession` does
 */
export async function train(settings: TrainSettings, environment: TrainEnvironment): Promise<TrainResult> {
  if (settings.dryRun) return await trainOrPreview(settings, environment);
  await assertUsableFolder(settings.out, settings.resume);
  const lock = lockRun(settings.out, environment.now());
  try {
    if (lock.takenOverFrom !== null) environment.note(tookOver(settings.out, lock.takenOverFrom));
    return await trainOrPreview(settings, environment);
  } finally {
    lock.release();
  }
}

function tookOver(folder: string, { pid, since }: LockHolder): string {
  return `${folder}: process ${pid}, which trained there from ${since} on, is gone; its lock was taken over`;
}

async function trainOrPreview(settings: TrainSettings, environment: TrainEnvironment): Promise<TrainResult> {
  const addon = loadAddon();
  const device = resolveDevice(addon, settings.device, settings.dtype ?? undefined);
  const dtype = resolveDType(addon, settings.dtype ?? undefined, device);
  const checkpoint = await openCheckpoint(settings.model);
  for (const line of checkpoint.notes) environment.note(line);
  assertTrainable(checkpoint, settings);
  const lora = loraOptions(checkpoint, settings);

  const data = await prepareData(settings, checkpoint, environment);
  const plan = planSteps({ ...settings, examples: data.training.length });
  const warmupSteps = resolveWarmup(settings.warmupSteps, plan.steps);
  const warning = warmupWarning(warmupSteps, plan.steps);
  if (warning !== null) environment.note(warning);

  const memory = await chooseMemory(settings, { addon, checkpoint, lora, device, dtype });
  const context = { addon, device, dtype, lora, checkpoint, data, plan, warmupSteps, memory };
  if (settings.dryRun) return { kind: "preview", ...previewRun(context) };

  environment.note(
    `${data.training.length} training and ${data.validation.length} validation examples, ${plan.steps} steps; ` +
      `${device}, ${dtype}, micro-batches of ${memory.microBatchTokens} tokens`,
  );
  const admitted = await admitRun(settings.out, await describeRun(settings, context, environment.now), settings.resume);
  for (const line of admitted.notes) environment.note(line);
  return { kind: "trained", summary: await trainAdmitted(settings, context, admitted.record, environment) };
}

async function trainAdmitted(
  settings: TrainSettings,
  { device, dtype, lora, checkpoint, data, plan, warmupSteps }: RunContext,
  record: RunRecord,
  environment: TrainEnvironment,
): Promise<TrainSummary> {
  const { microBatchTokens } = record.resolved;
  const schedule: Schedule = { scheduler: settings.scheduler, peak: settings.learningRate, warmupSteps, steps: plan.steps };
  const validation = data.validationBatches(microBatchTokens);
  const options: TraineeOptions = { checkpoint, device, dtype, lora, microBatchTokens, validation };
  return await runSession({
    ...{ settings, record, schedule, environment },
    loadTrainee: (from) => NativeTrainee.load(settings, options, from),
    checkpointBytes: checkpointSizes(checkpoint.spec, { lora, dtype, optimizer: settings.optimizer }),
    batch: (step) => data.stepBatch(plan, step, microBatchTokens),
  });
}

function assertTrainable({ config, spec, dir }: Checkpoint, { cutoff }: TrainSettings): void {
  refuseModelDropout(config, join(dir, "config.json"));
  if (spec.maxPositions !== null && spec.positions.kind === "rope" && cutoff > spec.maxPositions) {
    throw new PolypacaError("USAGE", `--cutoff ${cutoff}: ${dir} has positions for ${spec.maxPositions} tokens. Lower the cutoff.`);
  }
}

function loraOptions({ spec }: Checkpoint, settings: TrainSettings): LoraOptions | null {
  if (settings.method === "fft") return null;
  const { loraRank: rank, loraAlpha: alpha, loraDropout: dropout, seed } = settings;
  const targets = settings.loraTargets ?? studyLoraTargets(spec);
  targetedModules(spec, targets); // refuses a target that names no module
  return { rank, alpha, dropout, scaling: alpha / rank, targets, seed };
}

/** A run that is resumed keeps its micro-batches: another packing would sum in another order. */
async function chooseMemory(
  settings: TrainSettings,
  { addon, checkpoint, lora, device, dtype }: Pick<RunContext, "addon" | "checkpoint" | "lora" | "device" | "dtype">,
): Promise<MicroBatchChoice> {
  const earlier = settings.resume ? await readRunRecord(settings.out) : null;
  const { method, optimizer, weightDecay, maxGradNorm, recompute, seed, cutoff, allowOvercommit } = settings;
  const planFor = (microBatchTokens: number): MemoryPlan => {
    const options: TrainerOptions = { ...adamW, method, optimizer, weightDecay, maxGradNorm, recompute, seed, microBatchTokens };
    return addon.planMemory(checkpoint.spec, lora, { device, dtype, allowOvercommit }, options);
  };
  return chooseMicroBatch({
    requested: settings.microBatchTokens ?? earlier?.resolved.microBatchTokens ?? null,
    availableBytes: addon.memoryUsage(device).available,
    ...{ cutoff, device, allowOvercommit, planFor },
  });
}

async function describeRun(settings: TrainSettings, context: RunContext, now: () => number): Promise<RunRecord> {
  const { addon, device, dtype, lora, data, plan, warmupSteps, memory } = context;
  const { version } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
  const validationFiles = settings.validationFile === null ? [] : [settings.validationFile];
  return {
    version,
    createdAt: new Date(now()).toISOString(),
    settings,
    assumed: trainPresets[settings.preset].assumed,
    resolved: {
      ...{ device, dtype, loraTargets: lora?.targets ?? null, microBatchTokens: memory.microBatchTokens },
      ...{ steps: plan.steps, stepsPerEpoch: plan.stepsPerEpoch, warmupSteps },
      ...{ trainingExamples: data.training.length, validationExamples: data.validation.length },
    },
    optimizer: adamW,
    data: await Promise.all(settings.data.map(hashFile)),
    validationData: await Promise.all(validationFiles.map(hashFile)),
    model: { folder: settings.model, fingerprint: await fingerprintModel(settings.model) },
    tokenizer: await fingerprintTokenizer(settings.model),
    template: data.template,
    machine: { ...addon.machine(), host: hostname(), node: process.version },
    memory: memory.plan,
  };
}
