/** One process's part of a run: from the state in the run folder to the end, a failure or a signal. */
import { writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { Checkpoints, peakCheckpointBytes, trainerStateFileName } from "./checkpoints.js";
import { type LoopEnd, type MetricsLine, NotFiniteError, runTraining, type StepBatch, type StepRunner } from "./loop.js";
import type { Progress } from "./progress.js";
import { assertDiskSpace, beginRun, type RunRecord } from "./run-folder.js";
import { RunLog } from "./run-log.js";
import { learningRateAt, type Schedule } from "./schedule.js";
import type { TrainSettings } from "./settings.js";
import { templateFileName } from "./template-file.js";
import { finiteOrNull, initialState, type TrainerStateContext, type TrainingState, toTrainerState } from "./training-state.js";

/** A model under training, as far as a session is concerned. */
export interface Trainee extends StepRunner {
  /** Writes what inference needs into an empty folder: a Hugging Face folder, or a PEFT folder. */
  saveWeights(folder: string): Promise<void>;
  /** Writes the optimiser's state to `state.safetensors` in `folder`. */
  saveState(folder: string): Promise<void>;
  /** Mean cross-entropy per target token of the validation data; null without such data. */
  readonly validationLoss: ((signal: AbortSignal | undefined) => Promise<number>) | null;
  /** Highest memory use of the process so far. */
  peakMemoryBytes(): number;
  dispose(): Promise<void>;
}

export interface SessionParts {
  readonly settings: TrainSettings;
  readonly record: RunRecord;
  readonly schedule: Schedule;
  /** The model as the run starts with it, or as it was saved in a checkpoint's folder. */
  readonly loadTrainee: (checkpoint: string | null) => Promise<Trainee>;
  /** What a checkpoint takes. */
  readonly checkpointBytes: { readonly weights: number; readonly state: number };
  /** The examples of a step, counted from 0; a pure function. */
  readonly batch: (step: number) => StepBatch;
  readonly environment: TrainEnvironment;
}

/** What a run takes from the world around it. */
export interface TrainEnvironment {
  /** Aborting saves a checkpoint and stops. */
  readonly signal?: AbortSignal;
  /** Milliseconds since 1970; for time stamps. */
  readonly now: () => number;
  /** Warnings and milestones, a line each. */
  readonly note: (line: string) => void;
  readonly openProgress: (task: { readonly label: string; readonly start: number; readonly total: number }) => Progress;
  /** Where tokenised data is kept between runs; absent: nowhere. */
  readonly cacheDir?: string;
}

/** `train --json`. Losses in nats per target token; null where there was none. */
export interface TrainSummary {
  /** The run folder. */
  readonly run: string;
  readonly steps: number;
  readonly tokens: number;
  readonly loss: { readonly first: number | null; readonly last: number | null };
  readonly validationLoss: { readonly first: number | null; readonly best: number | null; readonly last: number | null };
  /** Checkpoint folders. */
  readonly best: string | null;
  readonly last: string | null;
  readonly tokensPerSecond: number;
  readonly peakMemoryBytes: number;
  readonly reason: "completed" | "early-stopping";
}

/**
 * Starts or resumes the run in `settings.out` and takes it to its end.
 *
 * @throws PolypacaError `CANCELLED` after saving, when `environment.signal` aborts; `NOT_FINITE` naming step, records and the last
 *   good checkpoint; `DISK_FULL` before step 1 where the checkpoints will not fit
 */
export async function runSession(parts: SessionParts): Promise<TrainSummary> {
  const { settings, checkpointBytes, environment } = parts;
  const checkpoints = new Checkpoints(settings.out);
  const { weights: weightBytes, state: stateBytes } = checkpointBytes;
  const peakBytes = peakCheckpointBytes({ weightBytes, stateBytes, limit: settings.saveTotalLimit });
  await assertDiskSpace(settings.out, peakBytes - (await checkpoints.bytes()));
  const resumeAt = await checkpoints.latestResumable();
  // Before the folder is touched: a model that does not load leaves no run behind.
  const trainee = await parts.loadTrainee(resumeAt === null ? null : checkpoints.path(resumeAt));
  try {
    const restored = await beginRun(settings.out, parts.record);
    if (restored !== null) environment.note(`resumed ${settings.out} at step ${restored.step} of ${parts.schedule.steps}`);
    return await trainFrom(restored, trainee, checkpoints, parts);
  } finally {
    await trainee.dispose();
  }
}

/** @param restored null: from the start */
async function trainFrom(
  restored: TrainingState | null,
  trainee: Trainee,
  checkpoints: Checkpoints,
  parts: SessionParts,
): Promise<TrainSummary> {
  const { settings, environment, schedule } = parts;
  const log = RunLog.open(settings.out, restored, environment.now);
  const progress = environment.openProgress({ label: "train", start: restored?.step ?? 0, total: schedule.steps });
  try {
    const end = await loop(parts, { trainee, checkpoints, log, progress, start: restored ?? initialState });
    if (end.reason === "cancelled") throw cancelled(end.state, parts);
    return summarize(end.state, end.reason, settings.out, trainee);
  } catch (cause) {
    throw await explainFailure(cause, settings.out, checkpoints);
  } finally {
    progress.stop();
    log.close();
  }
}

interface Open {
  readonly trainee: Trainee;
  readonly checkpoints: Checkpoints;
  readonly log: RunLog;
  readonly progress: Progress;
  readonly start: TrainingState;
}

function loop(parts: SessionParts, { trainee, checkpoints, log, progress, start }: Open): Promise<LoopEnd> {
  const { settings, record, schedule, environment } = parts;
  const { evalEvery, saveEvery, earlyStopping } = settings;
  const { steps, stepsPerEpoch } = record.resolved;
  return runTraining(
    {
      ...{
        steps,
        stepsPerEpoch,
        evalEvery,
        saveEvery,
        earlyStopping,
        trainer: trainee,
        batch: parts.batch,
        evaluate: trainee.validationLoss,
      },
      signal: environment.signal,
      learningRate: (step) => learningRateAt(schedule, step),
      record: (line, state) => {
        log.append(line);
        report(line, state, progress);
      },
      save: async (state) => {
        log.sync(); // a checkpoint never knows of more steps than the log
        await saveCheckpoint(parts, trainee, checkpoints, state);
      },
    },
    start,
  );
}

function report(line: MetricsLine, state: TrainingState, progress: Progress): void {
  if ("loss" in line) {
    progress.update(line.step, `loss ${line.loss.toFixed(4)}, ${Math.round(line.tokensPerSecond)} tokens/s`);
    return;
  }
  const isBest = state.best?.step === line.step;
  progress.note(`step ${line.step}: validation loss ${line.validationLoss?.toFixed(4) ?? "NaN"}${isBest ? " (best)" : ""}`);
}

/** A step's weights never change, so where its checkpoint is there already only the state beside them is written anew. */
async function saveCheckpoint(
  { settings, record }: SessionParts,
  trainee: Trainee,
  checkpoints: Checkpoints,
  state: TrainingState,
): Promise<void> {
  const { steps, stepsPerEpoch } = record.resolved;
  const { epochs, batchSize, evalEvery, saveEvery } = settings;
  const context: TrainerStateContext = {
    ...{ steps, stepsPerEpoch, epochs, batchSize, evalEvery, saveEvery },
    checkpointPath: Checkpoints.relativePath,
  };
  const trainerState = `${JSON.stringify(toTrainerState(state, context), null, 2)}\n`;
  if ((await checkpoints.steps()).includes(state.step)) {
    await writeFileAtomic(join(checkpoints.path(state.step), trainerStateFileName), trainerState);
  } else {
    await checkpoints.write(state.step, async (folder) => {
      await trainee.saveWeights(folder);
      await trainee.saveState(folder);
      await writeFile(join(folder, templateFileName), `${JSON.stringify(record.template, null, 2)}\n`);
      await writeFile(join(folder, trainerStateFileName), trainerState);
    });
  }
  await checkpoints.point("last", state.step);
  if (state.best !== null) await checkpoints.point("best", state.best.step);
  await checkpoints.prune({ last: state.step, best: state.best?.step ?? null, limit: settings.saveTotalLimit });
}

function cancelled(state: TrainingState, { schedule }: SessionParts): PolypacaError {
  const where = state.step === 0 ? "before step 1" : `after step ${state.step} of ${schedule.steps}, which is saved`;
  return new PolypacaError("CANCELLED", `stopped ${where}. The same command with --resume goes on from there.`);
}

/** Where a step met NaN, all of its records are left in not-finite.json, and the message says which checkpoint is good. */
async function explainFailure(cause: unknown, folder: string, checkpoints: Checkpoints): Promise<PolypacaError> {
  const error = PolypacaError.from(cause, { during: "training" });
  if (!(error instanceof NotFiniteError)) return error;
  const { step, records } = error;
  await writeFileAtomic(join(folder, "not-finite.json"), `${JSON.stringify({ step, records }, null, 2)}\n`);
  const good = await checkpoints.latestResumable();
  const kept = good === null ? "There is no checkpoint before it." : `The last good checkpoint is ${relative("", checkpoints.path(good))}.`;
  return new PolypacaError("NOT_FINITE", `${error.message} ${kept}`, { cause: error });
}

function summarize(state: TrainingState, reason: TrainSummary["reason"], out: string, trainee: Trainee): TrainSummary {
  const checkpoint = (step: number): string => join(resolve(out), Checkpoints.relativePath(step));
  const { validationLoss, best } = state;
  return {
    run: resolve(out),
    steps: state.step,
    tokens: state.tokens,
    loss: state.loss ?? { first: null, last: null },
    validationLoss: {
      first: validationLoss && finiteOrNull(validationLoss.first),
      best: best?.validationLoss ?? null,
      last: validationLoss && finiteOrNull(validationLoss.last),
    },
    best: best === null ? null : checkpoint(best.step),
    last: state.step === 0 ? null : checkpoint(state.step),
    tokensPerSecond: state.stepSeconds > 0 ? state.tokens / state.stepSeconds : 0,
    peakMemoryBytes: trainee.peakMemoryBytes(),
    reason,
  };
}
