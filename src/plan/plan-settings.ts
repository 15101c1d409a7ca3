/** What `plan` takes, and which of it goes together. */
import type { BudgetUnit } from "../budget/costs.js";
import type { Condition } from "../budget/mix-settings.js";
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";
import type { ComputeDType } from "../native/addon-types.js";
import type { TrainRecipe } from "./plan-grid.js";

/** One number for all, or one by key: by language code, by method. */
export type ByKey = number | Readonly<Record<string, number>>;

export interface PlanSettings {
  /** Model folders (config.json is read, no weights), or names of published models: "bloom-560m". */
  readonly models: readonly string[];
  /** Default: LoRA and FFT. */
  readonly methods?: readonly Method[] | undefined;
  /** Default: all four, `english` where English is among the languages. */
  readonly conditions?: readonly Condition[] | undefined;
  /** ISO 639 codes. Default: every one in `dataDir`, else the study's nine. */
  readonly languages?: readonly string[] | undefined;
  /** Folder of `alpaca.<lang>.json`, whose tokens are counted. */
  readonly dataDir?: string | undefined;
  /** Folder of the tokenizer that counts them. Default: each model's own, which a published model's name has not. */
  readonly tokenizer?: string | undefined;
  readonly skipBadRecords?: boolean | undefined;
  /** Without `dataDir`: records of each language. Default 52,000, the study's. */
  readonly records?: ByKey | undefined;
  /** Without `dataDir`: mean tokens of a record, template included; `mix` and a report of `plan` with data print it. No default. */
  readonly tokensPerRecord?: ByKey | undefined;
  /** Without `dataDir`, where only the response is trained on (FFT): how many of them are the response's. No default. */
  readonly responseTokensPerRecord?: ByKey | undefined;
  /** Files of `bench --save`: measured rates. At most one of `bench`, `tflops` and `tokensPerSecond`. */
  readonly bench?: readonly string[] | undefined;
  /** Peak of the device, in 10^12 operations per second; with `utilization`. */
  readonly tflops?: number | undefined;
  /** Share of it that training reaches, 0 to 1; may differ by method. */
  readonly utilization?: ByKey | undefined;
  /** Of one model and method. */
  readonly tokensPerSecond?: number | undefined;
  /** "cpu" or "cuda". Default: that of `bench`, else this machine's. */
  readonly device?: "cpu" | "cuda" | undefined;
  /** Default: bf16 where the hardware has it, else fp32. */
  readonly dtype?: ComputeDType | undefined;
  /** Memory of one device. Default: that of the benched machine, else of this one. */
  readonly deviceMemoryBytes?: number | undefined;
  /** Of one device, in any currency. */
  readonly pricePerHour?: number | undefined;
  /** What C is counted in. Default "examples". */
  readonly budget?: BudgetUnit | undefined;
  /** Trim or repeat `english` to C. Default false. */
  readonly matchBudget?: boolean | undefined;
  /** In place of what `paper-lora` and `paper-fft` say. */
  readonly recipe?: Partial<TrainRecipe> | undefined;
}

/** @throws PolypacaError `USAGE` naming the flags that contradict each other, are missing or would have no effect */
export function checkPlanSettings(settings: PlanSettings): void {
  const { models, methods = ["lora", "fft"], dataDir, bench, tflops, utilization, tokensPerSecond, pricePerHour } = settings;
  if (models.length === 0) refuse("--model: name at least one.");
  const twice = models.find((model, i) => models.indexOf(model) !== i);
  if (twice !== undefined) refuse(`--model ${twice}: is named twice.`);
  const rates = [bench && "--bench", tflops !== undefined && "--tflops", tokensPerSecond !== undefined && "--tokens-per-second"].filter(
    Boolean,
  );
  if (rates.length > 1) refuse(`${rates.join(" and ")}: both say how fast the device is. Give one of them.`);
  if ((tflops === undefined) !== (utilization === undefined))
    refuse("--tflops and --utilization: a peak is only reached in part, so each needs the other. Or give --bench.");
  if (tokensPerSecond !== undefined && (models.length > 1 || methods.length > 1))
    refuse(`--tokens-per-second ${tokensPerSecond}: is the rate of one model and method. Give one --model and one --method, or --bench.`);
  if (pricePerHour !== undefined && rates.length === 0)
    refuse("--price-per-hour: without a rate no hours are predicted. Give --bench, --tflops or --tokens-per-second.");
  for (const share of valuesOf(utilization)) {
    if (!(share > 0 && share <= 1)) refuse(`--utilization ${share}: expected a share of the peak, above 0, at most 1.`);
  }
  if (dataDir === undefined) checkAssumedData(settings);
  else checkCountedData(settings, dataDir);
}

function checkAssumedData(settings: PlanSettings): void {
  const { tokensPerRecord, responseTokensPerRecord, methods = ["lora", "fft"], recipe = {}, tokenizer, skipBadRecords } = settings;
  if (tokenizer !== undefined) refuse(`--tokenizer ${tokenizer}: has nothing to count without --data-dir. Give it, or leave this out.`);
  if (skipBadRecords === true) refuse("--skip-bad-records: nothing is read without --data-dir. Leave it out.");
  if (tokensPerRecord === undefined)
    refuse(
      "how long are the records? Give --data-dir and --tokenizer, and they are counted, or --tokens-per-record X (or en=X,fi=Y) as mix prints it.",
    );
  const needsResponses = recipe.trainOn === "response" || (recipe.trainOn === undefined && methods.includes("fft"));
  if (needsResponses && responseTokensPerRecord === undefined)
    refuse(
      "--method fft is trained on the response alone, and only its tokens go through the LM head: how many of a record's are they? Give --response-tokens-per-record X, or --data-dir and --tokenizer.",
    );
}

function checkCountedData(settings: PlanSettings, dataDir: string): void {
  for (const [name, flag] of [
    ["records", "--records"],
    ["tokensPerRecord", "--tokens-per-record"],
    ["responseTokensPerRecord", "--response-tokens-per-record"],
  ] as const) {
    if (settings[name] !== undefined) refuse(`${flag}: the records of --data-dir ${dataDir} are counted. Give one of the two.`);
  }
}

export function valuesOf(value: ByKey | undefined): readonly number[] {
  if (value === undefined) return [];
  return typeof value === "number" ? [value] : Object.values(value);
}

/** @throws PolypacaError `USAGE` where the value is given by key and lacks this one */
export function amountFor(value: ByKey, key: string, flag: string): number {
  const found = typeof value === "number" ? value : value[key];
  return found ?? refuse(`${flag}: says nothing about ${key}. Add ${key}=X, or give one number for all.`);
}

function refuse(message: string): never {
  throw new PolypacaError("USAGE", message);
}
