/**
 * Learning-rate schedules, as transformers' get_linear_/get_cosine_/get_constant_schedule_with_warmup compute them.
 * Step 0 is the first step, so with warm-up its learning rate is 0 (Adam's moments still move).
 */
export type SchedulerName = "linear" | "cosine" | "constant";

export interface Schedule {
  readonly scheduler: SchedulerName;
  /** Learning rate at the end of the warm-up. */
  readonly peak: number;
  readonly warmupSteps: number;
  /** Steps of the whole run; where `linear` and `cosine` would reach 0. */
  readonly steps: number;
}

/** Learning rate of `step`, counted from 0. */
export function learningRateAt(schedule: Schedule, step: number): number {
  return schedule.peak * factorAt(schedule, step);
}

function factorAt({ scheduler, warmupSteps, steps }: Schedule, step: number): number {
  if (step < warmupSteps) return step / warmupSteps;
  const decaySteps = Math.max(1, steps - warmupSteps);
  switch (scheduler) {
    case "constant":
      return 1;
    case "linear":
      return Math.max(0, (steps - step) / decaySteps);
    case "cosine":
      return Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmupSteps)) / decaySteps)));
  }
}

/**
 * Warm-up steps of a run: a count as it is, a share ("3%") of `steps` rounded up, as transformers' warmup_ratio.
 */
export function resolveWarmup(warmup: number | string, steps: number): number {
  if (typeof warmup === "number") return warmup;
  // Rounded to 1e-9 first: 3% of 100 steps is 3, not the 3.0000000000000004 that would round up to 4.
  return Math.ceil(Number(((Number.parseFloat(warmup) / 100) * steps).toFixed(9)));
}

/** A warm-up of 20% of the steps or more mostly means that the run is shorter than its preset had in mind. */
export function warmupWarning(warmupSteps: number, steps: number): string | null {
  if (warmupSteps === 0 || warmupSteps < 0.2 * steps) return null;
  const share = Math.round((100 * warmupSteps) / steps);
  const reach = warmupSteps >= steps ? "; the learning rate never reaches its peak" : "";
  return `warm-up takes ${warmupSteps} of ${steps} steps (${share}%)${reach}. Set --warmup-steps lower if that is not meant.`;
}
