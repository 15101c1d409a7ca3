/** What a grid's jobs will cost, before any of them has run: tokens, floating-point operations, memory, disk. */
import { existsSync } from "node:fs";
import { alignLanguages } from "../budget/alignment.js";
import { planMix } from "../budget/conditions.js";
import { type CostBasis, openCostBasis } from "../budget/cost-basis.js";
import { addCosts, type Cost, costOf, recordCosts, type TokenCounts } from "../budget/costs.js";
import type { LanguageData, ReadJob } from "../budget/language-data.js";
import { readLanguages } from "../budget/read-languages.js";
import type { Sample } from "../budget/sampling.js";
import type { DecoderSpec } from "../families/index.js";
import { parameterCount, studyLoraTargets } from "../families/parameters.js";
import { trainingWork } from "../families/work.js";
import type { Addon, ComputeDType, LoraOptions } from "../native/addon-types.js";
import { resolveDevice, resolveDType } from "../native/model.js";
import { peakCheckpointBytes } from "../train/checkpoints.js";
import { largestUseful } from "../train/memory.js";
import { adamW } from "../train/presets.js";
import type { Progress } from "../train/progress.js";
import { planSteps } from "../train/step-plan.js";
import { checkpointSizes } from "../train/trainee.js";
import type { Grid, GridModel } from "./grid.js";
import type { GenerateJobSettings, Input, Job, JobOf, LikelihoodJobSettings, MixJobSettings, TrainJobSettings } from "./job.js";
import { type MeasuredRate, trainingSeconds } from "./measured-rates.js";

export interface TrainingCost {
  /** Records of the training file, and those left when validation data is held out. */
  readonly examples: number;
  readonly trainingExamples: number;
  readonly steps: number;
  /** Of the whole run, all passes. */
  readonly tokens: number;
  readonly flops: number | null;
  /** On one device; null: no rates were given, or none of such a model. */
  readonly seconds: number | null;
  /** The examples over C, the mean of the languages. */
  readonly overC: number;
}

export interface JobCost {
  /** null: not of this kind of job, or the data is not there. */
  readonly training: TrainingCost | null;
  /** Of a job that computes on a device; null where the model's shape is not known. */
  readonly memoryBytes: number | null;
  /** Of checkpoints at their most. */
  readonly diskBytes: number | null;
}

export interface GridCosts {
  /** By the job's key. */
  readonly jobs: ReadonlyMap<string, JobCost>;
  /** What the user should know of them: where tokens are estimated, what is missing. */
  readonly notes: readonly string[];
}

export interface CostEnvironment {
  readonly addon: Addon;
  readonly signal?: AbortSignal;
  /** Of the machine that will train; empty: no times are predicted. */
  readonly rates: readonly MeasuredRate[];
  readonly openProgress: (task: { readonly label: string; readonly start: number; readonly total: number }) => Progress;
  /** Folder for token counts. */
  readonly countsCacheDir: string;
  readonly threads: number;
}

/** Where there is no tokenizer: UTF-8 bytes per token, about what the study's tokenizers make of English. */
const bytesPerToken = 4;

/** @throws PolypacaError for data that cannot be read, as `mix` does */
export async function costGrid(grid: Grid, jobs: readonly Job[], environment: CostEnvironment): Promise<GridCosts> {
  return await new GridCosting(grid, jobs, environment).cost();
}

/** Token counts of all languages by one tokenizer, template and cutoff. */
interface CountedData {
  readonly languages: readonly LanguageData[];
  readonly basis: CostBasis;
}

class GridCosting {
  readonly #grid: Grid;
  readonly #jobs: readonly Job[];
  readonly #byKey: ReadonlyMap<string, Job>;
  readonly #environment: CostEnvironment;
  readonly #notes = new Set<string>();
  readonly #counted = new Map<string, Promise<CountedData | null>>();
  readonly #languagesBy = new Map<string, readonly LanguageData[]>();
  readonly #samples = new Map<string, Sample>();

  constructor(grid: Grid, jobs: readonly Job[], environment: CostEnvironment) {
    this.#grid = grid;
    this.#jobs = jobs;
    this.#byKey = new Map(jobs.map((job) => [job.key, job]));
    this.#environment = environment;
  }

  async cost(): Promise<GridCosts> {
    const costs = new Map<string, JobCost>();
    for (const job of this.#jobs) costs.set(job.key, await this.#costOf(job));
    return { jobs: costs, notes: [...this.#notes] };
  }

  async #costOf(job: Job): Promise<JobCost> {
    const nothing = { training: null, memoryBytes: null, diskBytes: null };
    if (job.kind !== "train" && job.kind !== "generate" && job.kind !== "likelihood") return nothing;
    const model = this.#modelOf(job.inputs.model?.[0]);
    if (model.spec === null) {
      this.#notes.add(`${model.name}: not there, and no preset has its name: its memory, disk and FLOPs are not known`);
      return { ...nothing, training: job.kind === "train" ? await this.#trainingCost(job, model) : null };
    }
    if (job.kind === "generate") return { ...nothing, memoryBytes: this.#generationMemory(model.spec, job.settings) };
    if (job.kind === "likelihood") return { ...nothing, memoryBytes: this.#evaluationMemory(model.spec, job.settings) };
    const lora = loraOptions(model.spec, job.settings);
    const { device, dtype } = this.#deviceOf(job.settings);
    const { weights, state } = checkpointSizes(model.spec, { lora, dtype, optimizer: job.settings.optimizer });
    return {
      training: await this.#trainingCost(job, model),
      memoryBytes: this.#trainingMemory(model.spec, lora, job.settings, { device, dtype }),
      diskBytes: peakCheckpointBytes({ weightBytes: weights, stateBytes: state, limit: job.settings.saveTotalLimit }),
    };
  }

  #modelOf(input: Input | undefined): GridModel {
    return this.#grid.models.find(({ path }) => input?.kind === "model" && path === input.path)!;
  }

  /** The devices of this machine may not be those of the jobs: a plan made on a login node has the CPU's types. */
  #deviceOf({ device, dtype }: { readonly device: string; readonly dtype: ComputeDType | null }): { device: string; dtype: ComputeDType } {
    const { addon } = this.#environment;
    try {
      const found = resolveDevice(addon, device, dtype ?? undefined);
      return { device: found, dtype: resolveDType(addon, dtype ?? undefined, found) };
    } catch {
      this.#notes.add(`device ${device} is not on this machine: memory is predicted as for the CPU, in bf16`);
      return { device: "cpu", dtype: dtype ?? "bf16" };
    }
  }

  #trainingMemory(
    spec: DecoderSpec,
    lora: LoraOptions | null,
    settings: TrainJobSettings,
    { device, dtype }: { readonly device: string; readonly dtype: ComputeDType },
  ): number {
    const { method, optimizer, weightDecay, maxGradNorm, recompute, seed, cutoff } = settings;
    const ceiling = Math.max(cutoff, device.startsWith("cuda") ? largestUseful.cuda : largestUseful.cpu);
    const microBatchTokens = settings.microBatchTokens ?? ceiling;
    const options = { ...adamW, method, optimizer, weightDecay, maxGradNorm, recompute, seed, microBatchTokens };
    return this.#environment.addon.planMemory(spec, lora, { device, dtype, allowOvercommit: true }, options).total;
  }

  /** Weights, keys and values of every beam, and a batch's logits; prompts are taken to be as long as answers. */
  #generationMemory(spec: DecoderSpec, { batchSize, decoding, device, dtype }: GenerateJobSettings): number {
    const bytes = this.#deviceOf({ device, dtype }).dtype === "bf16" ? 2 : 4;
    const sequences = batchSize * decoding.numBeams;
    const keysAndValues = 2 * spec.layers * spec.kvHeads * spec.headDim * 2 * decoding.maxNewTokens;
    return parameterCount(spec) * bytes + sequences * (keysAndValues * bytes + spec.vocabSize * 4);
  }

  /** Weights, and the activations and logits of one reference, at most what training's head takes. */
  #evaluationMemory(spec: DecoderSpec, { cutoff, device, dtype }: LikelihoodJobSettings): number {
    const bytes = this.#deviceOf({ device, dtype }).dtype === "bf16" ? 2 : 4;
    const activations = cutoff * (2 * spec.intermediateSize + 8 * spec.hiddenSize) * 4;
    return parameterCount(spec) * bytes + activations + cutoff * spec.vocabSize * 4;
  }

  async #trainingCost(job: JobOf<"train">, model: GridModel): Promise<TrainingCost | null> {
    const { settings, inputs } = job;
    const counted = await this.#countFor(model, settings, inputs.template?.[0] ?? null);
    if (counted === null) return null;
    const mix = this.#byKey.get((inputs.data![0] as { readonly job: string }).job) as JobOf<"mix"> & { readonly key: string };
    const { languages, basis } = counted;
    const ofMix = languages.filter(({ language }) => mix.settings.languages!.includes(language));
    const sample = this.#sampleOf(mix.key, mix.settings, ofMix, counted);
    const cost = addCosts(sample.map((records, i) => costOf(records, ofMix[i]!.counts, basis.work)));
    const all = languages.reduce((sum, { index }) => sum + index.starts.length, 0);
    const { trainingExamples, steps, passes } = this.#passesOver(cost, settings, this.#heldOut(mix.settings, job));
    const whole = (value: number | null): number | null => value && Math.round((value * passes * trainingExamples) / cost.examples);
    const flops = whole(cost.flops);
    return {
      ...{ examples: cost.examples, trainingExamples, steps, tokens: whole(cost.tokens) ?? 0, flops },
      seconds: flops === null || model.spec === null ? null : this.#seconds(model.spec, settings, flops),
      overC: cost.examples / (all / languages.length),
    };
  }

  /** Records that are not trained on. With shared validation every language in the file lacks as many; a sample is smaller by its share. */
  #heldOut({ condition, languages }: MixJobSettings, job: JobOf<"train">): number {
    const split = job.inputs.validation?.[0];
    if (split === undefined) return job.settings.validationSize;
    const { validationSize } = (this.#byKey.get((split as { readonly job: string }).job) as JobOf<"split">).settings;
    return condition === "multilingual" ? validationSize * languages!.length : validationSize;
  }

  #seconds(spec: DecoderSpec, settings: TrainJobSettings, flops: number): number | null {
    const { rates } = this.#environment;
    if (rates.length === 0) return null;
    const workload = { method: settings.method, ...this.#measuredDevice(settings), parameters: parameterCount(spec), flops };
    const seconds = trainingSeconds(rates, workload);
    if (seconds === null)
      this.#notes.add(`no rate of ${settings.method} in ${workload.dtype} on ${workload.device} was measured: some times are not known`);
    return seconds;
  }

  /** The rates say what the machine is that will train: it need not be this one. */
  #measuredDevice({ device, dtype, method }: TrainJobSettings): { device: string; dtype: ComputeDType } {
    const measured = this.#environment.rates.filter((rate) => rate.method === method);
    const [cuda] = measured.filter((rate) => rate.device.startsWith("cuda"));
    if (device !== "cpu" && dtype !== "fp32" && cuda !== undefined) return { device: "cuda", dtype: "bf16" };
    return { device: "cpu", dtype: dtype ?? measured[0]?.dtype ?? "bf16" };
  }

  #passesOver(
    { examples }: Cost,
    settings: TrainJobSettings,
    heldOut: number,
  ): { trainingExamples: number; steps: number; passes: number } {
    const isTooMuch = heldOut > examples / 2;
    if (isTooMuch)
      this.#notes.add(`validationSize: ${heldOut} records are more than half of ${examples}: train would refuse that; lower it`);
    const trainingExamples = isTooMuch ? examples : examples - heldOut;
    const { steps, stepsPerEpoch } = planSteps({ ...settings, examples: trainingExamples });
    return { trainingExamples, steps, passes: steps / stepsPerEpoch };
  }

  /** Which records a mix takes; where it does not count tokens, for all models alike. */
  #sampleOf(key: string, settings: MixJobSettings, languages: readonly LanguageData[], { basis }: CountedData): Sample {
    const known = this.#samples.get(key);
    if (known !== undefined) return known;
    const { budget = "examples" } = settings;
    const strata = languages.map(({ language, index, counts }) => ({
      language,
      costs: recordCosts(budget, index.starts.length, counts, basis.work),
    }));
    const plan = planMix({ ...settings, dataDir: "", out: "" }, strata, alignLanguages(languages));
    const sample = plan.files[0]!.parts;
    this.#samples.set(key, sample);
    return sample;
  }

  #countFor(model: GridModel, settings: TrainJobSettings, template: Input | null): Promise<CountedData | null> {
    const key = JSON.stringify([model.name, settings.method, settings.cutoff, settings.trainOn, settings.loraRank, settings.loraTargets]);
    const known = this.#counted.get(key) ?? this.#count(model, settings, template);
    this.#counted.set(key, known);
    return known;
  }

  async #count(model: GridModel, settings: TrainJobSettings, template: Input | null): Promise<CountedData | null> {
    const { dataDir, languages } = this.#grid;
    const files = [...languages].sort().map((language) => ({ language, file: `${dataDir}/alpaca.${language}.json` }));
    if (files.some(({ file }) => !existsSync(file))) return null;
    const { method, cutoff, trainOn, loraRank, loraTargets } = settings;
    const lora = method === "lora" ? { loraRank, ...(loraTargets !== null && { loraTargets }) } : {};
    const templateFile = template?.kind === "file" ? { template: template.path } : {};
    const costed = { condition: "multilingual", dataDir, out: "", method, cutoff, trainOn, ...templateFile, ...lora } as const;
    const basis = model.isThere ? await openCostBasis({ ...costed, model: model.path }) : estimatedBasis(model.spec, settings);
    if (!model.isThere)
      this.#notes.add(
        `models that are not there have no tokenizer: their tokens are estimated, ${bytesPerToken} bytes each, all with a target`,
      );
    // Models of one family have one tokenizer, each in its own folder.
    const contentKey = JSON.stringify({ ...basis.counting, tokenizer: null });
    const read = this.#languagesBy.get(contentKey) ?? (await this.#read(files, basis));
    this.#languagesBy.set(contentKey, read);
    return { languages: basis.counting === null ? read.map((data) => ({ ...data, counts: estimatedCounts(data, cutoff) })) : read, basis };
  }

  async #read(
    files: readonly { readonly language: string; readonly file: string }[],
    { counting }: CostBasis,
  ): Promise<readonly LanguageData[]> {
    const { signal, openProgress, countsCacheDir: cacheDir, threads } = this.#environment;
    const skipBadRecords = this.#grid.mix?.skipBadRecords === true;
    const jobs = files.map(({ language, file }): ReadJob => ({ language, file, skipBadRecords, counting, cacheDir }));
    const shares = new Map<string, number>();
    let progress: Progress | null = null;
    const onProgress = (language: string, done: number, total: number): void => {
      progress ??= openProgress({ label: "counting tokens", start: 0, total: 100 });
      shares.set(language, done / total);
      progress.update(Math.floor((100 * [...shares.values()].reduce((sum, share) => sum + share, 0)) / jobs.length), "%");
    };
    try {
      return await readLanguages(jobs, { signal, threads, onProgress });
    } finally {
      (progress as Progress | null)?.stop();
    }
  }
}

function loraOptions(spec: DecoderSpec, settings: TrainJobSettings): LoraOptions | null {
  if (settings.method === "fft") return null;
  const { loraRank: rank, loraAlpha: alpha, loraDropout: dropout, seed } = settings;
  return { rank, alpha, dropout, scaling: alpha / rank, targets: settings.loraTargets ?? studyLoraTargets(spec), seed };
}

function estimatedBasis(spec: DecoderSpec | null, { method, loraRank: rank, loraTargets }: TrainJobSettings): CostBasis {
  const work = spec && trainingWork(spec, { method, rank, targets: loraTargets ?? studyLoraTargets(spec) });
  return { counting: null, work, templateTokens: null, recorded: { tokens: null, model: null }, notes: [] };
}

function estimatedCounts({ index: { starts, ends } }: LanguageData, cutoff: number): TokenCounts {
  const tokens = starts.map((start, i) => Math.min(cutoff, Math.ceil((ends[i]! - start) / bytesPerToken)));
  return { tokens, targetTokens: tokens, truncated: tokens.map((count) => Number(count === cutoff)) };
}
