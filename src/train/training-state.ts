/** Where a run is: everything the loop knows, apart from weights and moments. Values are replaced, never changed in place. */
import { PolypacaError } from "../errors.js";
import type { StepResult } from "../native/addon-types.js";

export interface TrainingState {
  /** Steps done; also the whole data position, see step-plan.ts. */
  readonly step: number;
  /** Step of the last evaluation; -1: none yet. */
  readonly evaluatedStep: number;
  readonly tokens: number;
  readonly targetTokens: number;
  /** Time spent inside steps, over all sessions of the run. */
  readonly stepSeconds: number;
  /** Of the first and the last step; null before step 1. */
  readonly loss: { readonly first: number; readonly last: number } | null;
  /** Of the first (before step 1) and the last evaluation; null where there was none. NaN is kept as NaN. */
  readonly validationLoss: { readonly first: number; readonly last: number } | null;
  readonly best: { readonly step: number; readonly validationLoss: number } | null;
  readonly evaluationsSinceBest: number;
  readonly logHistory: readonly LogEntry[];
}

/** An entry of transformers' log_history. */
export type LogEntry = Readonly<Record<string, number | null>>;

export const initialState: TrainingState = {
  step: 0,
  evaluatedStep: -1,
  tokens: 0,
  targetTokens: 0,
  stepSeconds: 0,
  loss: null,
  validationLoss: null,
  best: null,
  evaluationsSinceBest: 0,
  logHistory: [],
};

/** Every so many steps the loss goes into log_history; metrics.jsonl has all of them. */
const loggingSteps = 10;

export function afterStep(state: TrainingState, result: StepResult, learningRate: number, epoch: number): TrainingState {
  const step = state.step + 1;
  const entry: LogEntry = { epoch, grad_norm: result.gradNorm, learning_rate: learningRate, loss: result.loss, step };
  return {
    ...state,
    step,
    tokens: state.tokens + result.tokens,
    targetTokens: state.targetTokens + result.targetTokens,
    stepSeconds: state.stepSeconds + result.seconds,
    loss: { first: state.loss?.first ?? result.loss, last: result.loss },
    logHistory: step % loggingSteps === 0 ? [...state.logHistory, entry] : state.logHistory,
  };
}

/**
 * Best is the lowest loss, a tie goes to the earlier step, NaN is never best. The evaluation before step 1 shows where the run
 * starts; it has no checkpoint and is not a candidate.
 */
export function afterEvaluation(state: TrainingState, validationLoss: number, epoch: number): TrainingState {
  const isBest = state.step > 0 && (state.best === null ? !Number.isNaN(validationLoss) : validationLoss < state.best.validationLoss);
  const sinceBest = isBest || state.step === 0 ? 0 : state.evaluationsSinceBest + 1;
  const entry: LogEntry = { epoch, eval_loss: finiteOrNull(validationLoss), step: state.step };
  return {
    ...state,
    evaluatedStep: state.step,
    validationLoss: { first: state.validationLoss?.first ?? validationLoss, last: validationLoss },
    best: isBest ? { step: state.step, validationLoss } : state.best,
    evaluationsSinceBest: sinceBest,
    logHistory: [...state.logHistory, entry],
  };
}

/** What trainer_state.json says about the run beside its state. */
export interface TrainerStateContext {
  readonly steps: number;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  readonly batchSize: number;
  readonly evalEvery: number;
  readonly saveEvery: number;
  /** Path of a step's checkpoint relative to the run folder. */
  readonly checkpointPath: (step: number) => string;
}

/**
 * trainer_state.json in transformers' field names (TrainerState loads it); what it has no field for stands under
 * `stateful_callbacks.polypaca`. `total_flos` is not counted and stays at its default, 0.
 */
export function toTrainerState(state: TrainingState, context: TrainerStateContext): Record<string, unknown> {
  const { logHistory, validationLoss, ...rest } = state;
  return {
    best_metric: state.best?.validationLoss ?? null,
    best_model_checkpoint: state.best === null ? null : context.checkpointPath(state.best.step),
    epoch: state.step / context.stepsPerEpoch,
    eval_steps: context.evalEvery,
    global_step: state.step,
    is_hyper_param_search: false,
    is_local_process_zero: true,
    is_world_process_zero: true,
    log_history: logHistory,
    logging_steps: loggingSteps,
    max_steps: context.steps,
    num_input_tokens_seen: state.tokens,
    num_train_epochs: context.epochs,
    save_steps: context.saveEvery,
    stateful_callbacks: {
      polypaca: {
        ...rest,
        validationLoss: validationLoss && { first: finiteOrNull(validationLoss.first), last: finiteOrNull(validationLoss.last) },
      },
    },
    total_flos: 0,
    train_batch_size: context.batchSize,
    trial_name: null,
    trial_params: null,
  };
}

type StoredState = Omit<TrainingState, "logHistory" | "validationLoss"> & {
  readonly validationLoss: { readonly first: number | null; readonly last: number | null } | null;
};

/** @throws PolypacaError `BAD_CHECKPOINT` where the file is not one of ours */
export function fromTrainerState(text: string, file: string): TrainingState {
  try {
    const json = JSON.parse(text) as { log_history: readonly LogEntry[]; stateful_callbacks: { polypaca: StoredState } };
    const stored = json.stateful_callbacks.polypaca;
    const { validationLoss } = stored;
    if (!Number.isInteger(stored.step)) throw new TypeError("no step");
    return {
      ...stored,
      validationLoss: validationLoss && { first: validationLoss.first ?? Number.NaN, last: validationLoss.last ?? Number.NaN },
      logHistory: json.log_history,
    };
  } catch (cause) {
    const message = `${file}: not the training state of a polypaca run. Remove this checkpoint to resume from an earlier one.`;
    throw new PolypacaError("BAD_CHECKPOINT", message, { cause });
  }
}

/** JSON has no NaN; null stands for it. */
export function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
