import type { Checkpoint } from "../checkpoint/hf-folder.js";
import type { Addon, ComputeDType, LoraOptions } from "../native/addon-types.js";
import type { MicroBatchChoice } from "./memory.js";
import type { StepPlan } from "./step-plan.js";
import type { TrainingData } from "./training-data.js";

/** What a run comes down to once its settings have met model, data and machine. */
export interface RunContext {
  readonly addon: Addon;
  readonly device: string;
  readonly dtype: ComputeDType;
  readonly lora: LoraOptions | null;
  readonly checkpoint: Checkpoint;
  readonly data: TrainingData;
  readonly plan: StepPlan;
  readonly warmupSteps: number;
  readonly memory: MicroBatchChoice;
}
