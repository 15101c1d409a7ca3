/**
 * The training loop: TypeScript owns it, native code owns the step. Everything it touches comes in as `TrainingRun`, so the loop
 * can be read, and tested, without a model.
 */
import { PolypacaError } from "../errors.js";
import type { Batch, StepOptions, StepResult } from "../native/addon-types.js";
import { afterEvaluation, afterStep, finiteOrNull, type TrainingState } from "./training-state.js";

/** Where an example came from. */
export interface RecordOrigin {
  readonly file: string;
  /** Of the file, from 1. */
  readonly line: number;
}

/** What one optimiser step trains on. */
export interface StepBatch {
  readonly microBatches: readonly Batch[];
  /** Target tokens of the whole step: what its loss is normalised by. */
  readonly targetTokens: number;
  readonly records: readonly RecordOrigin[];
}

/** Takes one optimiser step. A rejection leaves the weights unchanged. */
export interface StepRunner {
  step(microBatches: readonly Batch[], options: StepOptions & { readonly signal?: AbortSignal }): Promise<StepResult>;
}

/** A line of metrics.jsonl: a step, or an evaluation after `step` steps. */
export type MetricsLine =
  | {
      readonly step: number;
      readonly epoch: number;
      readonly loss: number;
      readonly gradNorm: number;
      readonly learningRate: number;
      readonly tokens: number;
      readonly targetTokens: number;
      readonly seconds: number;
      readonly tokensPerSecond: number;
    }
  | { readonly step: number; readonly epoch: number; readonly validationLoss: number | null };

export interface TrainingRun {
  readonly steps: number;
  readonly stepsPerEpoch: number;
  /** In steps; the last step is evaluated and saved whatever these say. */
  readonly evalEvery: number;
  readonly saveEvery: number;
  /** Evaluations without improvement after which the run stops; null: never. */
  readonly earlyStopping: number | null;
  readonly trainer: StepRunner;
  /** Learning rate and examples of a step, counted from 0. */
  readonly learningRate: (step: number) => number;
  readonly batch: (step: number) => StepBatch;
  /** Mean cross-entropy per target token of the validation data; null without such data. */
  readonly evaluate: ((signal: AbortSignal | undefined) => Promise<number>) | null;
  /** Called for every line, in order. */
  readonly record: (line: MetricsLine, state: TrainingState) => void;
  /** Makes the state durable; when it resolves, a kill costs only what comes after. */
  readonly save: (state: TrainingState) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

export interface LoopEnd {
  readonly state: TrainingState;
  readonly reason: "completed" | "early-stopping" | "cancelled";
}

/**
 * Runs from `start` to the end of the run. Evaluation and saving of a step come before the next step and depend on the state
 * alone, so a run that goes on from any saved state does exactly what it would have done.
 *
 * @throws PolypacaError `NOT_FINITE` naming step and records; nothing is saved after the last good checkpoint
 */
export async function runTraining(run: TrainingRun, start: TrainingState): Promise<LoopEnd> {
  let state = start;
  let saved = start;
  const save = async (): Promise<void> => {
    if (state.step > 0 && state !== saved) await run.save(state);
    saved = state;
  };
  for (;;) {
    const evaluated = isEvaluationDue(run, state) ? await evaluate(run, state) : state;
    if (evaluated === null) {
      await save();
      return { state, reason: "cancelled" };
    }
    const isBest = evaluated.best !== state.best;
    state = evaluated;
    const end = endReason(run, state);
    if (end !== null || isBest || state.step % run.saveEvery === 0) await save();
    if (end !== null) return { state, reason: end };

    const stepped = await takeStep(run, state);
    if (stepped === null) {
      await save();
      return { state, reason: "cancelled" };
    }
    state = stepped;
  }
}

function isEvaluationDue(run: TrainingRun, state: TrainingState): boolean {
  if (run.evaluate === null || state.evaluatedStep === state.step) return false;
  return state.step % run.evalEvery === 0 || state.step === run.steps;
}

function endReason(run: TrainingRun, state: TrainingState): "completed" | "early-stopping" | null {
  if (state.step >= run.steps) return "completed";
  if (run.earlyStopping !== null && state.evaluationsSinceBest >= run.earlyStopping) return "early-stopping";
  return null;
}

/** null where it was cancelled. */
async function evaluate(run: TrainingRun, state: TrainingState): Promise<TrainingState | null> {
  const epoch = state.step / run.stepsPerEpoch;
  const validationLoss = await unlessCancelled(run.signal, async () => run.evaluate!(run.signal));
  if (validationLoss === null) return null;
  const next = afterEvaluation(state, validationLoss, epoch);
  run.record({ step: state.step, epoch, validationLoss: finiteOrNull(validationLoss) }, next);
  return next;
}

/** null where it was cancelled; the weights are then those of `state`. */
async function takeStep(run: TrainingRun, state: TrainingState): Promise<TrainingState | null> {
  const batch = run.batch(state.step);
  const learningRate = run.learningRate(state.step);
  const options = { learningRate, targetTokens: batch.targetTokens, ...(run.signal && { signal: run.signal }) };
  const result = await unlessCancelled(run.signal, async () => {
    try {
      return await run.trainer.step(batch.microBatches, options);
    } catch (cause) {
      throw notFinite(state.step + 1, batch, cause) ?? cause;
    }
  });
  if (result === null) return null;
  if (!Number.isFinite(result.loss) || !Number.isFinite(result.gradNorm)) {
    const what = new PolypacaError("NOT_FINITE", `loss ${result.loss}, gradient norm ${result.gradNorm}`);
    throw notFinite(state.step + 1, batch, what);
  }
  const epoch = (state.step + 1) / run.stepsPerEpoch;
  const next = afterStep(state, result, learningRate, epoch);
  const { loss, gradNorm, tokens, targetTokens, seconds } = result;
  const tokensPerSecond = tokens / seconds;
  run.record({ step: next.step, epoch, loss, gradNorm, learningRate, tokens, targetTokens, seconds, tokensPerSecond }, next);
  return next;
}

async function unlessCancelled<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T | null> {
  if (signal?.aborted) return null;
  try {
    return await work();
  } catch (cause) {
    if (signal?.aborted && PolypacaError.from(cause).code === "CANCELLED") return null;
    throw cause;
  }
}

/** A step that met NaN or infinity: the records it was on, for those who look for the bad one. */
export class NotFiniteError extends PolypacaError {
  readonly step: number;
  readonly records: readonly RecordOrigin[];

  constructor(step: number, records: readonly RecordOrigin[], cause: unknown) {
    const what = cause instanceof Error ? cause.message : String(cause);
    const advice = "Look at these records, or try a lower --learning-rate or a longer --warmup-steps.";
    super("NOT_FINITE", `step ${step}: ${what}. Records of this step: ${listRecords(records)}. ${advice}`, { cause });
    this.step = step;
    this.records = records;
  }
}

function notFinite(step: number, batch: StepBatch, cause: unknown): NotFiniteError | null {
  return PolypacaError.from(cause).code === "NOT_FINITE" ? new NotFiniteError(step, batch.records, cause) : null;
}

/** "alpaca.en.json lines 3, 17; alpaca.de.json line 5". */
export function listRecords(records: readonly RecordOrigin[]): string {
  const byFile = new Map<string, number[]>();
  for (const { file, line } of records) byFile.set(file, [...(byFile.get(file) ?? []), line]);
  const files = [...byFile].map(([file, lines]) => `${file} line${lines.length > 1 ? "s" : ""} ${lines.sort((a, b) => a - b).join(", ")}`);
  return files.join("; ");
}
