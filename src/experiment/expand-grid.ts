/** From a grid to its jobs and systems: a pure function. */
import { join } from "node:path";
import type { Condition } from "../budget/mix-settings.js";
import { PolypacaError } from "../errors.js";
import { type DecodingSettings, decodingPresets } from "../generate/decoding.js";
import { parseParameters } from "../report/model-sizes.js";
import { resolveSettings } from "../train/resolve-settings.js";
import type { TrainSettings } from "../train/settings.js";
import type { Grid, GridModel } from "./grid.js";
import { contentHash, type Input, type Inputs, type Job, type JobContent, type MixJobSettings, type TrainJobSettings } from "./job.js";
import { outputs } from "./outputs.js";

/** One of the study's systems: what a row of the score table is. */
export interface System {
  readonly name: string;
  readonly model: string;
  readonly method: "lora" | "fft";
  readonly condition: Condition;
  readonly seed: number;
  /** That it answers; monolingual systems only those they were tuned on. */
  readonly languages: readonly string[];
  /** Keys of its training jobs: one, and for monolingual systems one per language. */
  readonly runs: readonly string[];
}

export interface ExpandedGrid {
  /** A job comes after those it depends on. */
  readonly jobs: readonly Job[];
  readonly systems: readonly System[];
}

/**
 * Expands a grid. What is equal is done once: the monolingual English run is the English condition's, a mix serves all models unless
 * its budget is counted in their tokens or FLOPs, and a run on one language answers that language in a job of its own, which is part of
 * the monolingual system and of the English one.
 *
 * @throws PolypacaError `USAGE` for training settings that contradict each other, as `train` does; `BAD_CONFIG` for references of which
 *   there are none
 */
export function expandGrid(grid: Grid): ExpandedGrid {
  const expansion = new Expansion(grid);
  for (const model of grid.models)
    for (const method of grid.methods)
      for (const seed of grid.seeds) for (const condition of grid.conditions) expansion.addSystem({ model, method, seed, condition });
  expansion.addEvaluation();
  return expansion;
}

/** A place in the grid. */
interface Cell {
  readonly model: GridModel;
  readonly method: "lora" | "fft";
  readonly seed: number;
  readonly condition: Condition;
}

/** What a run is trained on. */
type TrainingSet = { readonly kind: "language"; readonly language: string } | { readonly kind: "english" | "multilingual" | "downsampled" };

interface Answers {
  readonly job: string;
  readonly languages: readonly string[];
}

class Expansion implements ExpandedGrid {
  readonly jobs: Job[] = [];
  readonly systems: System[] = [];
  readonly #grid: Grid;
  readonly #keys = new Set<string>();
  readonly #answersOf = new Map<string, readonly Answers[]>();
  readonly #likelihoodsOf = new Map<string, readonly string[]>();

  constructor(grid: Grid) {
    this.#grid = grid;
  }

  #add(content: JobContent): string {
    const { name: _, ...deciding } = content;
    const key = contentHash(deciding);
    if (!this.#keys.has(key)) this.jobs.push({ ...content, key });
    this.#keys.add(key);
    return key;
  }

  addSystem(cell: Cell): void {
    const { model, method, seed, condition } = cell;
    const { languages, testLanguages, seeds } = this.#grid;
    const name = [model.name, method, condition, ...(seeds.length > 1 ? [`s${seed}`] : [])].join("-");
    const sets = trainingSets(cell, this.#grid);
    const runs = sets.map((set) => this.#addRun(cell, set));
    const answered = condition === "monolingual" ? testLanguages.filter((language) => languages.includes(language)) : testLanguages;
    const answers = sets.flatMap((set, i) => this.#addAnswers(cell, set, runs[i]!, answered));
    this.#answersOf.set(name, answers);
    this.#likelihoodsOf.set(
      name,
      sets.flatMap((set, i) => this.#addLikelihoods(cell, set, runs[i]!)),
    );
    this.systems.push({ name, model: model.name, method, condition, seed, languages: answered, runs });
  }

  #addRun(cell: Cell, set: TrainingSet): string {
    const { model, method, seed } = cell;
    const recipe = recipeOf(this.#grid, method, seed);
    const split = this.#addSplit(recipe.settings);
    const mix = this.#addMix(cell, set, split);
    const validation = set.kind === "language" ? outputs.split.validation(set.language) : outputs.split.validation("all");
    return this.#add({
      kind: "train",
      name: `${model.name}-${method}-${setName(set)}-s${seed}`,
      settings: { ...recipe.settings, ...(split !== null && { validationSize: 0 }) },
      inputs: {
        model: [{ kind: "model", path: model.path }],
        data: [output(mix, outputs.mix.training(set.kind === "language" ? set.language : fileOf(set.kind)))],
        ...(split !== null && { validation: [output(split, validation)] }),
        ...templateInput(recipe.template),
      },
    });
  }

  /** @returns null: each run holds out its own */
  #addSplit({ validationSize }: TrainJobSettings): string | null {
    const { validation, languages, mix } = this.#grid;
    if (validation === "own" || validationSize === 0) return null;
    return this.#add({
      kind: "split",
      name: `hold-out-${validationSize}`,
      settings: { languages: [...languages].sort(), validationSize, seed: mix?.seed ?? 42 },
      inputs: { data: this.#dataFiles([...languages].sort(), null) },
    });
  }

  #dataFiles(languages: readonly string[], split: string | null): Input[] {
    return languages.map((language) =>
      split === null
        ? { kind: "file", path: join(this.#grid.dataDir, `alpaca.${language}.json`) }
        : output(split, outputs.split.data(language)),
    );
  }

  #addMix(cell: Cell, set: TrainingSet, split: string | null): string {
    const { settings, isCounted, needsModel } = mixOf(this.#grid, cell, set);
    const { template } = recipeOf(this.#grid, cell.method, cell.seed);
    const counted = isCounted ? `-${cell.model.name}-${cell.method}` : "";
    const inputs: Inputs = {
      data: this.#dataFiles(settings.languages ?? [], split),
      ...(isCounted && { [needsModel ? "model" : "tokenizer"]: [{ kind: "shape", path: cell.model.path }], ...templateInput(template) }),
    };
    return this.#add({ kind: "mix", name: `${setName(set)}${counted}`, settings, inputs });
  }

  #addAnswers(cell: Cell, set: TrainingSet, run: string, languages: readonly string[]): Answers[] {
    return askedTogether(cell, set, languages).map((asked) => this.#addGenerate(cell, set, run, asked));
  }

  #addLikelihoods(cell: Cell, set: TrainingSet, run: string): string[] {
    const { likelihood, languages, testLanguages } = this.#grid;
    if (likelihood === undefined) return [];
    const asked = askedTogether(cell, set, likelihood.dataDir === undefined ? [...languages].sort() : testLanguages);
    return asked.map((group) => this.#addLikelihood(cell, set, run, group));
  }

  #addLikelihood({ model, method, seed }: Cell, set: TrainingSet, run: string, languages: readonly string[]): string {
    const { likelihood = {}, generate = {} } = this.#grid;
    const { settings } = recipeOf(this.#grid, method, seed);
    const split = likelihood.dataDir === undefined ? this.#addSplit(settings) : null;
    if (split === null && likelihood.dataDir === undefined)
      throw new PolypacaError(
        "BAD_CONFIG",
        "likelihood: no references: train.validationSize is 0, so that nothing is held out. Raise it, or name likelihood.dataDir.",
      );
    const name = `${model.name}-${method}-${setName(set)}-s${seed}`;
    return this.#add({
      kind: "likelihood",
      name: languages.length === 1 ? `${name}-${languages[0]}` : name,
      settings: {
        ...{ method, languages, records: likelihood.records ?? 50, cutoff: settings.cutoff },
        ...{ device: generate.device ?? settings.device, dtype: generate.dtype ?? settings.dtype },
      },
      inputs: {
        model: [{ kind: "model", path: model.path }],
        run: [output(run, outputs.train.run)],
        references: languages.map((language) =>
          likelihood.dataDir === undefined
            ? output(split!, outputs.split.validation(language))
            : { kind: "file", path: join(likelihood.dataDir, `alpaca.${language}.json`) },
        ),
      },
    });
  }

  #addGenerate({ model, method, seed }: Cell, set: TrainingSet, run: string, languages: readonly string[]): Answers {
    const { generate = {}, train = {}, promptsDir } = this.#grid;
    const { lora, fft, batchSize = 16, seed: samplingSeed = 0, dtype, device, skipBadRecords = false, ...decoding } = generate;
    const ofMethod = method === "lora" ? lora : fft;
    const system = `${model.name}-${method}-${setName(set)}-s${seed}`;
    const job = this.#add({
      kind: "generate",
      name: languages.length === 1 ? `${system}-${languages[0]}` : system,
      settings: {
        ...{ system, model: model.name, method, languages, batchSize, seed: samplingSeed, skipBadRecords },
        decoding: { ...decodingPresets[`paper-${method}`], ...decoding, ...ofMethod } as DecodingSettings,
        ...{ device: device ?? train.device ?? "auto", dtype: dtype ?? train.dtype ?? null },
      },
      inputs: {
        model: [{ kind: "model", path: model.path }],
        run: [output(run, outputs.train.run)],
        prompts: languages.map((language) => ({ kind: "file", path: join(promptsDir, `test_${language}.jsonl`) })),
      },
    });
    return { job, languages };
  }

  addEvaluation(): void {
    const { judge, score = {}, figures = {}, languages, models, promptsDir, testLanguages } = this.#grid;
    const labels = this.systems.map(({ name, condition }) => ({ system: name, condition }));
    const responsesOf = (system: string): Input[] =>
      this.#answersOf.get(system)!.map((answers) => output(answers.job, outputs.generate.responses));
    const inputs: Record<string, readonly Input[]> = {
      prompts: testLanguages.map((language) => ({ kind: "file", path: join(promptsDir, `test_${language}.jsonl`) })),
      ...(score.lidModel !== undefined && { lidModel: [{ kind: "file", path: score.lidModel }] }),
    };
    for (const label of labels) {
      const { system } = label;
      inputs[`responses:${system}`] = responsesOf(system);
      const likelihoods = this.#likelihoodsOf.get(system)!;
      if (likelihoods.length > 0) inputs[`likelihood:${system}`] = likelihoods.map((job) => output(job, outputs.likelihood.rows));
      if (judge === null) continue;
      const { promptFile = null, ...settings } = judge;
      const judged = this.#add({
        ...{ kind: "judge", name: system, settings: { system: label, judge: settings } },
        inputs: { responses: responsesOf(system), ...(promptFile !== null && { prompt: [{ kind: "file", path: promptFile }] }) },
      });
      inputs[`judgements:${system}`] = [output(judged, outputs.judge.judgements)];
    }
    const { candidates = "all", seenLanguages = languages, compare = "conditions", resamples = 10_000, seed = 0 } = score;
    const scored = this.#add({
      kind: "score",
      name: "all-systems",
      settings: {
        ...{ systems: labels, isJudged: judge !== null, candidates, seenLanguages, comparing: compare, resamples, seed },
        allowIncomplete: score.allowIncomplete ?? false,
      },
      inputs,
    });
    const familySize = figures.familySize === undefined ? null : parseParameters(String(figures.familySize));
    const facts = Object.fromEntries(models.map(({ name, family, parameters }) => [name, { family, parameters }]));
    this.#add({
      kind: "figures",
      name: "all-systems",
      settings: { models: facts, familySize, png: figures.png ?? false },
      inputs: { scores: [output(scored, outputs.score.report)] },
    });
  }
}

/** English without a size to be fitted to is the monolingual English model's data. */
function trainingSets({ condition }: Cell, { languages, mix = {} }: Grid): TrainingSet[] {
  if (condition === "monolingual") return languages.map((language) => ({ kind: "language", language }));
  if (condition !== "english") return [{ kind: condition }];
  const isFitted = mix.matchBudget === true || mix.size !== undefined;
  return [isFitted ? { kind: "english" } : { kind: "language", language: "en" }];
}

/** A run on one language is asked in that language by a job of its own: its answers are part of the monolingual system, all of them of the English one. */
function askedTogether({ condition }: Cell, set: TrainingSet, languages: readonly string[]): (readonly string[])[] {
  if (set.kind !== "language") return [languages];
  const own = languages.filter((language) => language === set.language);
  const others = condition === "monolingual" ? [] : languages.filter((language) => language !== set.language);
  return [own, others].filter((asked) => asked.length > 0);
}

function setName(set: TrainingSet): string {
  if (set.kind === "language") return set.language;
  return set.kind === "english" ? "en-matched" : set.kind;
}

function fileOf(kind: Exclude<TrainingSet["kind"], "language">): string {
  return kind === "english" ? "en" : kind;
}

interface MixPlan {
  readonly settings: MixJobSettings;
  /** Costs in tokens or FLOPs decide which records are taken. */
  readonly isCounted: boolean;
  /** FLOPs do. */
  readonly needsModel: boolean;
}

/** Settings that have no effect on a training set are left out, so that changing them makes no other mix of it. */
function mixOf(grid: Grid, { method, seed: trainSeed }: Cell, set: TrainingSet): MixPlan {
  const { mix = {}, languages } = grid;
  const { budget = "examples", size, perLanguage, sampling, matchBudget, allowMissing, skipBadRecords, seed = 42 } = mix;
  const isFitted = set.kind === "english" || set.kind === "downsampled";
  const isChosen = isFitted || perLanguage !== undefined;
  const isCounted = isChosen && budget !== "examples";
  const { cutoff, trainOn, loraRank, loraTargets } = recipeOf(grid, method, trainSeed).settings;
  const needsModel = isCounted && budget === "flops";
  const settings: MixJobSettings = {
    condition: set.kind === "language" ? "monolingual" : set.kind,
    languages: set.kind === "language" ? [set.language] : [...languages].sort(),
    ...(isChosen && { budget }),
    ...(isFitted && size !== undefined && { size }),
    ...(perLanguage !== undefined && { perLanguage }),
    ...(set.kind === "downsampled" && sampling !== undefined && { sampling }),
    ...(set.kind === "downsampled" && allowMissing === true && { allowMissing }),
    ...(set.kind === "english" && matchBudget === true && { matchBudget }),
    ...(skipBadRecords === true && { skipBadRecords }),
    ...((isChosen || set.kind === "multilingual") && { seed }),
    ...(isCounted && { method, cutoff, trainOn }),
    ...(needsModel && method === "lora" && { loraRank, ...(loraTargets !== null && { loraTargets }) }),
  };
  return { settings, isCounted, needsModel };
}

interface Recipe {
  readonly settings: TrainJobSettings;
  readonly template: string | null;
}

/** Preset, then the grid's settings for both methods, then those of the method. */
export function recipeOf({ train = {} }: Pick<Grid, "train">, method: "lora" | "fft", seed: number): Recipe {
  const { lora, fft, ...common } = train;
  const given = { ...common, ...(method === "lora" ? lora : fft), method, seed, model: "-", data: ["-"], out: "-" };
  const {
    model: _m,
    data: _d,
    out: _o,
    validationFile: _v,
    template,
    resume: _r,
    dryRun: _n,
    ...settings
  }: TrainSettings = resolveSettings({}, given);
  return { settings, template };
}

function templateInput(template: string | null): Inputs {
  return template === null ? {} : { template: [{ kind: "file", path: template }] };
}

function output(job: string, path: string): Input {
  return { kind: "output", job, path };
}
