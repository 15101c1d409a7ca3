/** What `mix` takes, and which of it goes together. */

import type { TrainOn } from "../data/tokenize.js";
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";
import type { BudgetUnit } from "./costs.js";

/**
 * The study's four ways to spend a budget; with T the cost of all languages' data, N their number and C = T / N:
 * `monolingual` (a file per language; T), `multilingual` (all merged; T), `english` (English alone), `downsampled` (a sample of the
 * merged data; C).
 */
export type Condition = "monolingual" | "multilingual" | "english" | "downsampled";

export const conditions = ["monolingual", "multilingual", "english", "downsampled"] as const satisfies readonly Condition[];

/**
 * How `downsampled` chooses: `random` from all records alike (the study's), `stratified` with every language's share as in the whole
 * data, `disjoint` with every seed instruction in one language at most.
 */
export type Sampling = "random" | "stratified" | "disjoint";

export const samplings = ["random", "stratified", "disjoint"] as const satisfies readonly Sampling[];

export interface MixSettings {
  readonly condition: Condition;
  /** Folder of `alpaca.<lang>.json`. */
  readonly dataDir: string;
  /** New or empty folder for the training files and the manifest. */
  readonly out: string;
  /** ISO 639 codes; their order does not matter. Default: every language in `dataDir`. */
  readonly languages?: readonly string[] | undefined;
  /** Default "examples". */
  readonly budget?: BudgetUnit | undefined;
  /** Of the training file, in units of the budget, in place of C; for `downsampled` and `english`. */
  readonly size?: number | undefined;
  /** In units of the budget: of each language only so much; in `downsampled`, so much of each language, in place of C. */
  readonly perLanguage?: number | undefined;
  /** For `downsampled`; default "random", with `perLanguage` "stratified". */
  readonly sampling?: Sampling | undefined;
  /** Trim or repeat `english` to C (or `size`). Default false. */
  readonly matchBudget?: boolean | undefined;
  /** 0 to 2^53 - 1; default 42. */
  readonly seed?: number | undefined;
  /** Folder of the tokenizer that counts tokens; default: that of `model`, where it has one. */
  readonly tokenizer?: string | undefined;
  /** Model folder whose config.json gives the FLOPs; weights are not read. */
  readonly model?: string | undefined;
  /** Decides the template, the loss and the FLOPs; default "lora". */
  readonly method?: Method | undefined;
  /** Default: as `train`. */
  readonly loraRank?: number | undefined;
  /** Default: as `train`. */
  readonly loraTargets?: readonly string[] | undefined;
  /** Tokens; default: as `train`. */
  readonly cutoff?: number | undefined;
  /** Default: as `train` for the method. */
  readonly trainOn?: TrainOn | undefined;
  /** Prompt template in the study's JSON form; default: as `train` for the method. */
  readonly template?: string | undefined;
  /** Let `disjoint` go on where a language lacks records that others have. Default false. */
  readonly allowMissing?: boolean | undefined;
  /** List malformed records and leave them out. Default false. */
  readonly skipBadRecords?: boolean | undefined;
}

/**
 * Refuses settings that contradict each other, lack what they need or would have no effect.
 *
 * @throws PolypacaError `USAGE` naming the flags
 */
export function checkMixSettings(settings: MixSettings): void {
  const { condition, size, perLanguage, sampling, matchBudget, budget = "examples", seed } = settings;
  if (seed !== undefined && !(Number.isSafeInteger(seed) && seed >= 0))
    refuse(`--seed ${seed}: expected a whole number, 0 to ${Number.MAX_SAFE_INTEGER}.`);
  for (const [flag, value] of [
    ["--size", size],
    ["--per-language", perLanguage],
  ] as const) {
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      refuse(`${flag} ${value}: expected a whole number of ${budget}, at least 1.`);
  }
  if (size !== undefined && perLanguage !== undefined)
    refuse(`--size ${size} and --per-language ${perLanguage} both say how much is taken. Give one of them.`);
  if (size !== undefined && (condition === "monolingual" || condition === "multilingual")) {
    refuse(
      `--size ${size}: ${condition} takes all of the data. Use --condition downsampled for a file of that size, or --per-language for so much of each language.`,
    );
  }
  if (sampling !== undefined && condition !== "downsampled")
    refuse(`--sampling ${sampling}: only --condition downsampled draws a sample; this is ${condition}.`);
  if (sampling === "random" && perLanguage !== undefined)
    refuse(
      `--sampling random and --per-language ${perLanguage}: a plain random sample has no fixed part of each language. Use stratified.`,
    );
  if (matchBudget === true && condition !== "english")
    refuse(`--match-budget: only --condition english can differ from the budget; this is ${condition}.`);
  checkCounting(settings, budget);
}

function checkCounting(settings: MixSettings, budget: BudgetUnit): void {
  const { tokenizer, model, method, allowMissing, sampling } = settings;
  if (budget === "flops" && model === undefined)
    refuse("--budget flops: whose operations? Give a model folder with --model (its config.json is read, no weights).");
  if (budget === "tokens" && tokenizer === undefined && model === undefined)
    refuse("--budget tokens: which tokens? Give the tokenizer's folder with --tokenizer, or a model folder that has one with --model.");
  const idle = (name: "cutoff" | "template" | "trainOn" | "method" | "loraRank" | "loraTargets"): boolean => settings[name] !== undefined;
  if (tokenizer === undefined && model === undefined) {
    const flag = (["method", "cutoff", "template", "trainOn", "loraRank", "loraTargets"] as const).find(idle);
    if (flag !== undefined)
      refuse(
        `${flagOf(flag)}: without --tokenizer or --model no tokens are counted, so it would change nothing. Give one, or leave it out.`,
      );
  }
  const lora = (["loraRank", "loraTargets"] as const).find(idle);
  if (lora !== undefined && (model === undefined || method === "fft"))
    refuse(`${flagOf(lora)}: only counts for the FLOPs of --method lora and a --model. Leave it out.`);
  if (allowMissing === true && sampling !== "disjoint")
    refuse("--allow-missing: only --sampling disjoint refuses missing records. Leave it out.");
}

function flagOf(name: string): string {
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function refuse(message: string): never {
  throw new PolypacaError("USAGE", message);
}
