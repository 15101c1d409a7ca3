/** Predicts what training jobs take on a device: tokens, operations, memory, hours and cost. Nothing is allocated or trained. */
import type { Workload } from "../budget/costs.js";
import { workloadFlops } from "../budget/costs.js";
import type { Condition } from "../budget/mix-settings.js";
import { PolypacaError } from "../errors.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { adapterParameterCount, parameterCount, studyLoraTargets } from "../families/parameters.js";
import { forwardWork, type Method, type TuningMethod, trainingWork } from "../families/work.js";
import type { Addon, ComputeDType, LoraOptions, MemoryPlan, TrainerOptions } from "../native/addon-types.js";
import { chooseMicroBatch, type MicroBatchChoice } from "../train/memory.js";
import { adamW, type TrainPreset } from "../train/presets.js";
import { planSteps } from "../train/step-plan.js";
import { scaleWorkload } from "./condition-workloads.js";
import { type Rate, type Rates, rateOf } from "./rates.js";

/** Settings of `train`, as a preset has them. */
export type TrainRecipe = TrainPreset["values"];

export interface PlanJob {
  /** Different for each job of a list. */
  readonly name: string;
  /** The model's name, for tables. */
  readonly model: string;
  readonly spec: DecoderSpec;
  readonly condition: Condition | null;
  /** null: several. */
  readonly language: string | null;
  /** One pass over the training file, before `recipe.validationSize` records are held out. */
  readonly data: Workload;
  /** Validation data of its own; null: `recipe.validationSize` records of `data`. */
  readonly validation: Workload | null;
  readonly recipe: TrainRecipe;
  /** Another job of the list that is the same run: it is done, and counted, once. */
  readonly sameRunAs: string | null;
}

export interface Hardware {
  /** "cpu" or "cuda". */
  readonly device: string;
  readonly dtype: ComputeDType;
  /** Of one device; null: unknown, and nothing is said about what fits. */
  readonly memoryBytes: number | null;
  /** null: unknown, and no hours are predicted. */
  readonly rates: Rates | null;
  /** Of one device, in any currency; null: no cost is predicted. */
  readonly pricePerHour: number | null;
  /** The addon's, and the back end that it is asked about: "cpu", "cuda" or "cuda-emulated". */
  readonly planMemory: Addon["planMemory"];
  readonly memoryDevice: string;
}

export interface JobPlan {
  readonly name: string;
  readonly model: string;
  readonly method: Method;
  readonly condition: Condition | null;
  readonly language: string | null;
  readonly sameRunAs: string | null;
  /** Records of the file; those trained on and held out. */
  readonly examples: { readonly data: number; readonly training: number; readonly validation: number };
  readonly steps: number;
  readonly stepsPerEpoch: number;
  /** Of all epochs, validation not included. */
  readonly tokens: number;
  readonly flops: number;
  /** Of all evaluations. */
  readonly evaluationFlops: number;
  readonly microBatchTokens: number;
  readonly memory: MemoryPlan;
  /** On one device; null: its memory is unknown. */
  readonly fits: boolean | null;
  readonly rate: Rate | null;
  /** Of training and evaluations; null without rates. */
  readonly hours: number | null;
  readonly cost: number | null;
}

export interface GridPlan {
  readonly jobs: readonly JobPlan[];
  /** Jobs that are the same run count once. On one device, one after the other. */
  readonly total: {
    readonly runs: number;
    readonly tokens: number;
    readonly flops: number;
    readonly hours: number | null;
    readonly cost: number | null;
  };
  /** Names of the jobs that need more memory than one device has. */
  readonly tooLarge: readonly string[];
}

/**
 * Predicts every job. Hours: work over the rate of forward and backward pass, the evaluations' forward passes at the same rate, and
 * the updates. Not counted: loading, tokenising, checkpoints.
 *
 * @throws PolypacaError `USAGE` where a job has too few records for its validation set, or no rate fits it
 */
export function planGrid(jobs: readonly PlanJob[], hardware: Hardware): GridPlan {
  // Jobs of a model and method take the same memory: planning it lays out the whole model.
  const memories = new Map<string, MicroBatchChoice>();
  const plans = jobs.map((job) => {
    const { method, loraRank, loraTargets, cutoff, microBatchTokens, recompute, optimizer } = job.recipe;
    const key = JSON.stringify([job.model, method, loraRank, loraTargets, cutoff, microBatchTokens, recompute, optimizer]);
    const memory = memories.get(key) ?? planJobMemory(job, hardware);
    memories.set(key, memory);
    return planJob(job, memory, hardware);
  });
  const runs = plans.filter(({ sameRunAs }) => sameRunAs === null);
  const sum = (value: (plan: JobPlan) => number): number => runs.reduce((total, plan) => total + value(plan), 0);
  const known = (key: "hours" | "cost"): number | null => (runs.some((plan) => plan[key] === null) ? null : sum((plan) => plan[key] ?? 0));
  return {
    jobs: plans,
    total: {
      runs: runs.length,
      tokens: sum(({ tokens }) => tokens),
      flops: sum(({ flops }) => flops),
      hours: known("hours"),
      cost: known("cost"),
    },
    tooLarge: plans.filter(({ fits }) => fits === false).map(({ name }) => name),
  };
}

export function tuningOf(spec: DecoderSpec, { method, loraRank, loraTargets }: TrainRecipe): TuningMethod {
  return { method, rank: loraRank, targets: loraTargets ?? studyLoraTargets(spec) };
}

/** The part of a training file that is trained on. @throws PolypacaError `USAGE` where more than half would be held out, as `train` refuses it */
export function trainingPart(data: Workload, { validationSize }: TrainRecipe, name: string): Workload {
  if (validationSize > data.examples / 2) {
    const message = `${name}: --validation-size ${validationSize} is more than half of its ${Math.round(data.examples)} records.`;
    throw new PolypacaError("USAGE", `${message} Lower it.`);
  }
  return scaleWorkload(data, 1 - validationSize / data.examples);
}

function planJob(job: PlanJob, { microBatchTokens, plan: memory }: MicroBatchChoice, hardware: Hardware): JobPlan {
  const { name, model, spec, condition, language, data, recipe, sameRunAs } = job;
  const tuning = tuningOf(spec, recipe);
  const training = job.validation === null ? trainingPart(data, recipe, name) : data;
  const validation = job.validation ?? scaleWorkload(data, recipe.validationSize / data.examples);
  const { steps, stepsPerEpoch } = planSteps({ ...recipe, examples: Math.round(training.examples) });
  const passes = steps / stepsPerEpoch;
  const flops = passes * workloadFlops(training, trainingWork(spec, tuning));
  const tokens = passes * training.tokens;
  const evaluationFlops = evaluations(steps, validation, recipe) * workloadFlops(validation, forwardWork(spec, tuning));
  const parameters = parameterCount(spec);
  const rated = {
    ...{ model, arch: spec.modelType, method: recipe.method, dtype: hardware.dtype, parameters, flopsPerToken: flops / tokens },
    trainableParameters: recipe.method === "lora" ? adapterParameterCount(spec, tuning) : parameters,
  };
  const rate = hardware.rates === null ? null : rateOf(hardware.rates, rated);
  const hours = rate === null ? null : ((flops + evaluationFlops) / rate.flopsPerSecond + steps * rate.optimizerSeconds) / 3600;
  return {
    ...{ name, model, method: recipe.method, condition, language, sameRunAs },
    examples: { data: data.examples, training: training.examples, validation: validation.examples },
    ...{ steps, stepsPerEpoch, tokens, flops, evaluationFlops, microBatchTokens, memory, rate, hours },
    fits: hardware.memoryBytes === null ? null : memory.total <= hardware.memoryBytes,
    cost: hours === null || hardware.pricePerHour === null ? null : hours * hardware.pricePerHour,
  };
}

/** At every `evalEvery`-th step and at the last one. */
function evaluations(steps: number, { examples }: Workload, { evalEvery }: TrainRecipe): number {
  return examples === 0 ? 0 : Math.ceil(steps / evalEvery);
}

/** As `train` chooses: the largest micro-batch that fits, else the least there is, which then does not. */
function planJobMemory({ spec, recipe }: PlanJob, { device, dtype, memoryBytes, planMemory, memoryDevice }: Hardware): MicroBatchChoice {
  const { method, loraRank: rank, loraAlpha: alpha, loraDropout: dropout, seed } = recipe;
  const { optimizer, weightDecay, maxGradNorm, recompute, cutoff } = recipe;
  const { targets } = tuningOf(spec, recipe);
  const lora: LoraOptions | null = method === "lora" ? { rank, alpha, dropout, scaling: alpha / rank, targets, seed } : null;
  const planFor = (microBatchTokens: number): MemoryPlan => {
    const options: TrainerOptions = { ...adamW, method, optimizer, weightDecay, maxGradNorm, recompute, seed, microBatchTokens };
    return planMemory(spec, lora, { device: memoryDevice, dtype, allowOvercommit: true }, options);
  };
  const availableBytes = memoryBytes ?? Number.POSITIVE_INFINITY;
  return chooseMicroBatch({ requested: recipe.microBatchTokens, cutoff, device, availableBytes, allowOvercommit: true, planFor });
}
