/** `plan`: what a grid of models, methods and conditions takes on given hardware, and how equal the conditions' budgets are. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { openCostBasis } from "../budget/cost-basis.js";
import { type Workload, workloadOf } from "../budget/costs.js";
import { type CountingEnvironment, findLanguageFiles, readLanguageFiles } from "../budget/data-folder.js";
import { conditions as allConditions, type Condition } from "../budget/mix-settings.js";
import { readModelConfig } from "../checkpoint/hf-folder.js";
import { PolypacaError } from "../errors.js";
import { studyTrainingLanguages } from "../evaluate/study-languages.js";
import type { DecoderSpec } from "../families/decoder-spec.js";
import { decoderSpecFromConfig } from "../families/index.js";
import { modelPresetNames, presetConfig } from "../families/presets.js";
import { type Method, trainingWork } from "../families/work.js";
import type { Addon } from "../native/addon-types.js";
import { loadAddon } from "../native/load.js";
import { resolveDevice, resolveDType } from "../native/model.js";
import { flagOf } from "../settings/check-settings.js";
import { trainPresets } from "../train/presets.js";
import { checkSomeSettings } from "../train/settings.js";
import { type BudgetEquality, compareBudgets } from "./budget-equalities.js";
import { conditionFiles, type LanguageWorkload, uniformWorkload } from "./condition-workloads.js";
import { type GridPlan, type Hardware, type PlanJob, planGrid, type TrainRecipe, trainingPart, tuningOf } from "./plan-grid.js";
import { amountFor, checkPlanSettings, type PlanSettings } from "./plan-settings.js";
import { type Rates, readMeasuredRates } from "./rates.js";

/** Of each language, as the study has them. */
export const studyRecords = 52_000;

export type PlanEnvironment = CountingEnvironment & {
  readonly note?: ((line: string) => void) | undefined;
};

/** `plan --json`. */
export interface PlanResult extends GridPlan {
  readonly languages: readonly string[];
  readonly hardware: Pick<Hardware, "device" | "dtype" | "memoryBytes" | "pricePerHour"> & {
    /** Where the rates come from, in words; null: there are none. */
    readonly rates: string | null;
  };
  /** By model and method. */
  readonly budgets: readonly BudgetEquality[];
  /** What the figures take for granted, a sentence each. */
  readonly notes: readonly string[];
}

/**
 * Predicts a grid; nothing is trained, and no weights are read.
 *
 * @throws PolypacaError `USAGE` for settings that contradict each other or say too little; as `findLanguageFiles`, `openCostBasis`,
 *   `readLanguages`, `readMeasuredRates` and {@link planGrid} do; `ADDON` without the native addon, which plans the memory
 */
export async function plan(settings: PlanSettings, environment: PlanEnvironment = {}): Promise<PlanResult> {
  checkPlanSettings(settings);
  const { methods = ["lora", "fft"], matchBudget = false, budget: unit = "examples" } = settings;
  const models = await Promise.all(settings.models.map(openModel));
  const { hardware, notes: hardwareNotes } = await resolveHardware(settings);
  const data = new PlanData(settings, environment);
  const jobs: PlanJob[] = [];
  const budgets: BudgetEquality[] = [];
  let languages: readonly string[] = [];
  for (const model of models) {
    for (const method of methods) {
      const recipe = recipeOf(method, settings.recipe);
      const workloads = await data.of(model, recipe);
      languages = workloads.map(({ language }) => language);
      const work = trainingWork(model.spec, tuningOf(model.spec, recipe));
      const chosen = conditionsOf(settings, languages);
      const compared = chosen.map((condition) => ({ condition, files: conditionFiles(condition, workloads, { unit, matchBudget, work }) }));
      jobs.push(...compared.flatMap(({ condition, files }) => files.map((file) => jobOf(model, recipe, condition, file))));
      const trainingOf = ({ language, workload }: { readonly language: string | null; readonly workload: Workload }): Workload =>
        trainingPart(workload, recipe, `${model.name} ${method} ${language ?? ""}`.trim());
      budgets.push(compareBudgets({ model: model.name, method, work }, workloads, compared, trainingOf));
    }
  }
  const grid = planGrid(shareEnglish(jobs, matchBudget), hardware);
  const { device, dtype, memoryBytes, pricePerHour, rates } = hardware;
  return {
    languages,
    hardware: { device, dtype, memoryBytes, pricePerHour, rates: rates && describeRates(rates) },
    budgets,
    ...grid,
    notes: [...hardwareNotes, ...data.notes, ...extrapolationNotes(grid)],
  };
}

interface PlannedModel {
  readonly name: string;
  readonly spec: DecoderSpec;
  /** null: a published model's shape. */
  readonly folder: string | null;
}

async function openModel(name: string): Promise<PlannedModel> {
  if (existsSync(name)) return { name, spec: decoderSpecFromConfig(await readModelConfig(name), join(name, "config.json")), folder: name };
  const isPreset = (modelPresetNames as readonly string[]).includes(name);
  if (isPreset) return { name, spec: decoderSpecFromConfig(presetConfig(name), name), folder: null };
  throw new PolypacaError(
    "USAGE",
    `--model ${name}: no such folder, and no published model of that name (${modelPresetNames.join(", ")}).`,
  );
}

/** @throws PolypacaError `USAGE` for a value out of its range */
function recipeOf(method: Method, changes: PlanSettings["recipe"] = {}): TrainRecipe {
  const checked = checkSomeSettings(changes);
  if ("issues" in checked) {
    const { path, message } = checked.issues[0]!;
    throw new PolypacaError("USAGE", `${flagOf(String(path[0]))}: ${message}`);
  }
  return { ...trainPresets[`paper-${method}`].values, ...changes, method };
}

function conditionsOf({ conditions }: PlanSettings, languages: readonly string[]): readonly Condition[] {
  const hasEnglish = languages.includes("en");
  if (conditions?.includes("english") && !hasEnglish)
    throw new PolypacaError(
      "USAGE",
      `--condition english: English (en) is not among the languages (${languages.join(",")}). Add it to --langs.`,
    );
  return conditions ?? allConditions.filter((condition) => condition !== "english" || hasEnglish);
}

function jobOf(
  { name: model, spec }: PlannedModel,
  recipe: TrainRecipe,
  condition: Condition,
  { language, workload }: { readonly language: string | null; readonly workload: Workload },
): PlanJob {
  const name = [model, recipe.method, condition, ...(condition === "monolingual" ? [language] : [])].join(" ");
  return { name, model, spec, condition, language, data: workload, validation: null, recipe, sameRunAs: null };
}

/** `english` is the English run of `monolingual`, whose file is the same to the byte, unless it is fitted to C. */
function shareEnglish(jobs: readonly PlanJob[], matchBudget: boolean): PlanJob[] {
  const names = new Set(jobs.map(({ name }) => name));
  return jobs.map((job) => {
    const twin = `${job.model} ${job.recipe.method} monolingual en`;
    return job.condition === "english" && !matchBudget && names.has(twin) ? { ...job, sameRunAs: twin } : job;
  });
}

/** What each language's records come to, for one tokenizer and recipe after the other. */
class PlanData {
  readonly notes: string[] = [];
  readonly #settings: PlanSettings;
  readonly #environment: PlanEnvironment;
  /** By tokenizer and method. */
  readonly #counted = new Map<string, Promise<LanguageWorkload[]>>();

  constructor(settings: PlanSettings, environment: PlanEnvironment) {
    this.#settings = settings;
    this.#environment = environment;
    if (settings.dataDir === undefined) this.notes.push("attention is counted as if every record had the mean number of tokens");
  }

  async of(model: PlannedModel, recipe: TrainRecipe): Promise<LanguageWorkload[]> {
    const { dataDir, tokenizer } = this.#settings;
    if (dataDir === undefined) return this.#assumed(recipe);
    const folder = tokenizer ?? model.folder;
    if (folder === null) {
      const message = `--model ${model.name} is a published shape without files: whose tokens are counted?`;
      throw new PolypacaError("USAGE", `${message} Give --tokenizer DIR (polypaca fetch model brings one).`);
    }
    const key = JSON.stringify([folder, recipe.method]);
    const counted = this.#counted.get(key) ?? this.#count(dataDir, folder, recipe);
    this.#counted.set(key, counted);
    return await counted;
  }

  #assumed({ trainOn, cutoff }: TrainRecipe): LanguageWorkload[] {
    const { languages = studyTrainingLanguages, records = studyRecords, tokensPerRecord, responseTokensPerRecord } = this.#settings;
    return languages.map((language) => {
      const tokens = amountFor(tokensPerRecord!, language, "--tokens-per-record");
      if (tokens > cutoff)
        throw new PolypacaError(
          "USAGE",
          `--tokens-per-record ${tokens}: above the cutoff of ${cutoff} tokens. Give the mean after cutting.`,
        );
      // The first token is predicted by none.
      const targetTokens =
        trainOn === "response" ? amountFor(responseTokensPerRecord!, language, "--response-tokens-per-record") : tokens - 1;
      if (targetTokens >= tokens)
        throw new PolypacaError("USAGE", `--response-tokens-per-record ${targetTokens}: not fewer than the record's ${tokens}. Lower it.`);
      return { language, workload: uniformWorkload({ records: amountFor(records, language, "--records"), tokens, targetTokens }) };
    });
  }

  async #count(dataDir: string, tokenizer: string, recipe: TrainRecipe): Promise<LanguageWorkload[]> {
    const { languages, skipBadRecords = false } = this.#settings;
    const { method, cutoff, trainOn, template } = recipe;
    const { note = () => {}, cacheDir = null } = this.#environment;
    const files = await findLanguageFiles({ dataDir, languages });
    const basis = await openCostBasis({ tokenizer, method, cutoff, trainOn, template: template ?? undefined });
    for (const line of basis.notes) note(line);
    const jobs = files.map((file) => ({ ...file, skipBadRecords, counting: basis.counting, cacheDir }));
    const read = await readLanguageFiles(jobs, this.#environment);
    return read.map(({ language, counts, index }) => {
      return {
        language,
        workload: workloadOf(
          Int32Array.from(index.starts, (_, record) => record),
          counts!,
        ),
      };
    });
  }
}

/** What the settings say of the hardware, and what else is needed of this machine or of the one that was benched. */
type HardwareSettings = Pick<
  PlanSettings,
  "bench" | "tflops" | "utilization" | "tokensPerSecond" | "device" | "dtype" | "deviceMemoryBytes" | "pricePerHour"
>;

/**
 * The hardware that {@link planGrid} plans for.
 *
 * @returns with what it takes for granted, a sentence each
 * @throws PolypacaError `USAGE` where the device is not the benched one or does not compute in the type; as `readMeasuredRates`
 */
export async function resolveHardware(
  settings: HardwareSettings,
  addon: Addon = loadAddon(),
): Promise<{ readonly hardware: Hardware; readonly notes: readonly string[] }> {
  const rates = await ratesOf(settings);
  const measured = rates?.kind === "measured" ? rates : null;
  if (measured !== null && settings.device !== undefined && settings.device !== measured.device)
    throw new PolypacaError("USAGE", `--device ${settings.device}: --bench was measured on ${measured.device}. Leave --device out.`);
  const device = settings.device ?? measured?.device ?? resolveDevice(addon, "auto", settings.dtype);
  const { cudaDevices, cudaEmulator } = addon.machine();
  if (device === "cuda" && settings.dtype === "fp32")
    throw new PolypacaError("USAGE", "--dtype fp32 with cuda: CUDA trains in bf16 only. Leave --dtype out.");
  const usual =
    measured !== null ? (measured.hasBf16 ? "bf16" : "fp32") : device === "cuda" ? "bf16" : resolveDType(addon, undefined, device);
  const here = device === "cpu" ? addon.memoryUsage("cpu").available : (cudaDevices[0]?.memoryTotal ?? null);
  const memoryBytes = settings.deviceMemoryBytes ?? (measured === null ? here : measured.memoryBytes);
  const memoryDevice = device === "cpu" || cudaDevices.length > 0 ? device : cudaEmulator ? "cuda-emulated" : "cpu";
  const notes = [
    ...(memoryBytes === null ? ["the device's memory is unknown: --device-memory says it"] : []),
    ...(memoryBytes !== null && settings.deviceMemoryBytes === undefined && measured === null
      ? ["memory available is this machine's"]
      : []),
    ...(rates === null ? ["no hours: --bench FILE has measured rates, or give --tflops with --utilization"] : []),
    ...(device === "cuda" && memoryDevice === "cpu" ? ["memory is planned as on the CPU: this build has no CUDA to ask"] : []),
  ];
  const planMemory: Addon["planMemory"] = (...job) => addon.planMemory(...job);
  const pricePerHour = settings.pricePerHour ?? null;
  return { hardware: { device, dtype: settings.dtype ?? usual, memoryBytes, rates, pricePerHour, planMemory, memoryDevice }, notes };
}

async function ratesOf({ bench, tflops, utilization, tokensPerSecond }: HardwareSettings): Promise<Rates | null> {
  if (bench !== undefined) return await readMeasuredRates(bench);
  if (tokensPerSecond !== undefined) return { kind: "tokens", tokensPerSecond };
  if (tflops === undefined || utilization === undefined) return null;
  const share = (method: Method): number | null => (typeof utilization === "number" ? utilization : (utilization[method] ?? null));
  const rate = (method: Method): number | null => {
    const used = share(method);
    return used === null ? null : used * tflops * 1e12;
  };
  return {
    kind: "flops",
    flopsPerSecond: { lora: rate("lora"), fft: rate("fft") },
    description: `${tflops} TFLOP/s at the utilisation given`,
  };
}

function describeRates(rates: Rates): string {
  if (rates.kind === "measured") return `measured on ${rates.machine} (${rates.files.join(", ")})`;
  return rates.kind === "flops" ? rates.description : `${rates.tokensPerSecond} tokens/s, given`;
}

/** From here on a rate that was measured on another size is worth a warning. */
const farAway = 4;

function extrapolationNotes({ jobs }: GridPlan): string[] {
  const lines = jobs.flatMap(({ model, method, rate }) => {
    const ratio = rate?.sizeRatio ?? 1;
    const times = Math.max(ratio, 1 / ratio);
    if (times < farAway || rate === null) return [];
    const size = ratio > 1 ? "times the size" : "times smaller than the size";
    return [
      `${model}, ${method}: ${times.toFixed(0)} ${size} that its rate was measured on; measure nearer to it before you rely on the hours`,
    ];
  });
  return [...new Set(lines)];
}
