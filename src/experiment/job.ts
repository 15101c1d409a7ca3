/**
 * What a job is: one call of one of polypaca's commands, by its settings and by where its inputs come from. A job knows no folder: it is
 * the same job wherever it runs, and jobs that are equal are one.
 */
import { createHash } from "node:crypto";
import type { MixSettings } from "../budget/mix-settings.js";
import type { JudgeSettingName, SomeJudgeSettings } from "../evaluate/judge/settings.js";
import type { Comparing } from "../evaluate/score.js";
import type { DecodingSettings } from "../generate/decoding.js";
import type { ComputeDType } from "../native/addon-types.js";
import type { ModelFacts } from "../report/model-sizes.js";
import type { TrainSettings } from "../train/settings.js";

/** In the order in which they follow on each other. */
export const jobKinds = ["split", "mix", "train", "generate", "likelihood", "judge", "score", "figures"] as const;

export type JobKind = (typeof jobKinds)[number];

/** Something from outside the grid, which counts by its content, or a file or folder that another job makes. */
export type Input =
  | { readonly kind: "file"; readonly path: string }
  /** Weights, config.json and tokenizer of a folder. */
  | { readonly kind: "model"; readonly path: string }
  /** The same without weights. */
  | { readonly kind: "shape"; readonly path: string }
  /** `path` is inside the job's output folder. */
  | { readonly kind: "output"; readonly job: string; readonly path: string };

export type Inputs = Readonly<Record<string, readonly Input[]>>;

/** Holds whole seed records out, before mixing. Inputs: `data`, a file per language. */
export interface SplitSettings {
  readonly languages: readonly string[];
  /** Seed records. */
  readonly validationSize: number;
  readonly seed: number;
}

/** Inputs: `data`, a file per language; `model`, where costs in tokens or FLOPs decide; `template`. */
export type MixJobSettings = Omit<MixSettings, "dataDir" | "out" | "tokenizer" | "model" | "template">;

/** Inputs: `model`, `data`; `validation` with shared validation data; `template`. */
export type TrainJobSettings = Omit<TrainSettings, "model" | "data" | "out" | "validationFile" | "template" | "resume" | "dryRun">;

/** Inputs: `model`, `run`, `prompts`. */
export interface GenerateJobSettings {
  /** In the rows: the run's name. What systems its answers stand for is said later: they may be several. */
  readonly system: string;
  readonly model: string;
  readonly method: "lora" | "fft";
  /** Of `prompts`, in their order. */
  readonly languages: readonly string[];
  readonly decoding: DecodingSettings;
  readonly batchSize: number;
  readonly seed: number;
  readonly device: string;
  readonly dtype: ComputeDType | null;
  readonly skipBadRecords: boolean;
}

/** Inputs: `model`, `run`, `references`. */
export interface LikelihoodJobSettings {
  readonly method: "lora" | "fft";
  /** Of `references`, in their order. */
  readonly languages: readonly string[];
  /** Of each language. */
  readonly records: number;
  readonly cutoff: number;
  readonly device: string;
  readonly dtype: ComputeDType | null;
}

/** Inputs: `responses`; `prompt`, where it is not the one that comes along. */
export interface JudgeJobSettings {
  readonly system: SystemLabel;
  readonly judge: Omit<SomeJudgeSettings, "responses" | "prompts" | "language" | "system" | "out" | "journal" | "promptFile">;
}

/** What the rows of a system say of it. */
export interface SystemLabel {
  readonly system: string;
  readonly condition: string;
}

/** Inputs: `prompts`, `lidModel`, and by system `responses:<system>`, `judgements:<system>` and `likelihood:<system>`. */
export interface ScoreJobSettings {
  readonly systems: readonly SystemLabel[];
  /** False: every response counts 1, so that scores count the responses in the prompt's language. */
  readonly isJudged: boolean;
  readonly candidates: "all" | "expected";
  readonly seenLanguages: readonly string[];
  readonly comparing: Comparing;
  readonly resamples: number;
  readonly seed: number;
  readonly allowIncomplete: boolean;
}

/** Inputs: `scores`. */
export interface FiguresJobSettings {
  readonly models: Readonly<Record<string, ModelFacts>>;
  readonly familySize: number | null;
  readonly png: boolean;
}

interface SettingsByKind {
  readonly split: SplitSettings;
  readonly mix: MixJobSettings;
  readonly train: TrainJobSettings;
  readonly generate: GenerateJobSettings;
  readonly likelihood: LikelihoodJobSettings;
  readonly judge: JudgeJobSettings;
  readonly score: ScoreJobSettings;
  readonly figures: FiguresJobSettings;
}

export type JobOf<Kind extends JobKind> = {
  readonly kind: Kind;
  /** What it is, readable: part of its folder's name, and of no hash. */
  readonly name: string;
  readonly settings: SettingsByKind[Kind];
  readonly inputs: Inputs;
};

export type JobContent = { readonly [Kind in JobKind]: JobOf<Kind> }[JobKind];

/** `key`: of jobs in one grid, unique, and equal for equal jobs. */
export type Job = JobContent & { readonly key: string };

/** Settings that change how a job is done, not what comes of it: they are in no hash. */
const freeSettings: { readonly [Kind in JobKind]?: readonly string[] } = {
  train: ["saveTotalLimit", "allowOvercommit"] satisfies (keyof TrainSettings)[],
};

/** The same of a judge: where it is, how fast it may be asked, what it costs. What judges is its name. */
const freeJudgeSettings: ReadonlySet<string> = new Set<JudgeSettingName>([
  ...(["baseUrl", "apiKeyEnv", "concurrency", "requestsPerMinute", "tokensPerMinute", "maxRetries", "timeout"] as const),
  ...(["priceInput", "priceOutput", "batch", "retryUnparsable"] as const),
]);

/** The settings that a job's result depends on. */
export function decidingSettings(job: JobContent): object {
  if (job.kind === "judge") {
    const { judge, ...others } = job.settings;
    return { ...others, judge: Object.fromEntries(Object.entries(judge).filter(([name]) => !freeJudgeSettings.has(name))) };
  }
  const free = freeSettings[job.kind] ?? [];
  return Object.fromEntries(Object.entries(job.settings).filter(([name]) => !free.includes(name)));
}

/** Independent of the order in which an object's fields were set. */
export function contentHash(content: unknown): string {
  return createHash("sha256")
    .update(JSON.stringify(sorted(content)))
    .digest("hex");
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, field]) => [name, sorted(field)]));
}

/** Keys of the jobs whose output a job reads, each once. */
export function dependenciesOf({ inputs }: Pick<JobContent, "inputs">): string[] {
  const keys = Object.values(inputs).flatMap((list) => list.flatMap((input) => (input.kind === "output" ? [input.job] : [])));
  return [...new Set(keys)];
}
