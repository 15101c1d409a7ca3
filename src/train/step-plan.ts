/**
 * How a run's examples become steps. The step number alone says where in the data a run is: the order of an epoch is a pure
 * function of seed and epoch, so that resuming needs no sampler state.
 */
export interface StepPlan {
  readonly examples: number;
  /** Examples per optimiser step; the last step of an epoch takes what is left. */
  readonly batchSize: number;
  readonly stepsPerEpoch: number;
  /** Steps of the whole run. */
  readonly steps: number;
}

/** `maxSteps`, where given, overrides `epochs` (which may be a fraction), as in transformers' Trainer. */
export function planSteps(run: {
  readonly examples: number;
  readonly batchSize: number;
  readonly epochs: number;
  readonly maxSteps: number | null;
}): StepPlan {
  const stepsPerEpoch = Math.ceil(run.examples / run.batchSize);
  const steps = run.maxSteps ?? Math.ceil(run.epochs * stepsPerEpoch);
  return { examples: run.examples, batchSize: run.batchSize, stepsPerEpoch, steps };
}

/** Which places of which epoch's order `step` (from 0) takes: [start, end) of epoch `epoch` (from 0). */
export function locateStep(plan: StepPlan, step: number): { readonly epoch: number; readonly start: number; readonly end: number } {
  const epoch = Math.floor(step / plan.stepsPerEpoch);
  const start = (step % plan.stepsPerEpoch) * plan.batchSize;
  return { epoch, start, end: Math.min(start + plan.batchSize, plan.examples) };
}

/** Epochs completed after `steps` steps, as a fraction; what transformers logs as `epoch`. */
export function epochsAfter(plan: StepPlan, steps: number): number {
  return steps / plan.stepsPerEpoch;
}
