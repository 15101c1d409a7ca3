import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { type BudgetUnit, budgetUnits } from "../budget/costs.js";
import { type Condition, conditions, type MixSettings, type Sampling, samplings } from "../budget/mix-settings.js";
import { cacheFolder, choiceFlag, commaList, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

/** More threads than this, each with a file of its own in memory, would take more memory than time. */
const mostThreads = 4;

export function registerMix(program: Command): void {
  const command = program
    .command("mix")
    .summary("write the training file of a budget condition")
    .description(
      "Writes the training files of a budget condition, and a manifest. With T the cost of all languages' data, N their number and " +
        "C = T / N: monolingual is a file per language (T), multilingual all of it merged (T), english English alone, downsampled a " +
        "sample of the merged data (C). The same seed gives the same files on every machine.",
    )
    .requiredOption("--condition <NAME>", "monolingual, multilingual, english or downsampled", choiceFlag("--condition", conditions))
    .requiredOption("--data-dir <DIR>", "folder of alpaca.<lang>.json")
    .requiredOption("--out <DIR>", "new folder for the training files and the manifest")
    .option("--langs <A,B>", "languages by code (default: every one in --data-dir)", commaList);
  addBudgetFlags(command);
  addCountingFlags(command);
  command
    .option("--allow-missing", "disjoint: deal a record among the languages that have it")
    .option("--skip-bad-records", "leave malformed records out and list them")
    .option("--json", "print the result as JSON")
    .action(runMix);
}

/** How much of the data, and which of it. */
function addBudgetFlags(command: Command): void {
  command
    .option("--budget <UNIT>", "what is counted: examples, tokens or flops", choiceFlag("--budget", budgetUnits), "examples")
    .option("--size <N>", "size of the downsampled or english file, in units of the budget (default: C)", numberFlag("--size", { min: 1 }))
    .option("--per-language <N>", "so much of each language, in units of the budget", numberFlag("--per-language", { min: 1 }))
    .option(
      "--sampling <HOW>",
      "of downsampled: random, stratified (each language its share) or disjoint (each seed record in one language)",
      choiceFlag("--sampling", samplings),
    )
    .option("--match-budget", "trim or repeat english to C, or to --size")
    .option("--seed <N>", "of samples and order", numberFlag("--seed", { integer: true, min: 0 }), 42);
}

/** What tokens and FLOPs are counted by. */
function addCountingFlags(command: Command): void {
  const count = (flag: string, min: number) => numberFlag(flag, { integer: true, min });
  command
    .option("--tokenizer <DIR>", "folder of the tokenizer that counts tokens (default: that of --model)")
    .option("--model <DIR>", "model folder whose config.json gives the FLOPs; no weights are read")
    .option("--method <NAME>", "lora or fft: decides template, loss and FLOPs (default: lora)", choiceFlag("--method", ["lora", "fft"]))
    .option("--lora-rank <N>", "rank of the adapter (default: 8)", count("--lora-rank", 1))
    .option("--lora-targets <A,B>", "modules that get an adapter (default: the study's key, query, value)", commaList)
    .option("--cutoff <N>", "longest example in tokens (default: 512)", count("--cutoff", 2))
    .option(
      "--train-on <WHAT>",
      "prompt+response or response (default: by --method, as train)",
      choiceFlag("--train-on", ["prompt+response", "response"]),
    )
    .option("--template <FILE>", "prompt template in the study's JSON form");
}

async function runMix({ langs: languages, json, ...flags }: MixFlags): Promise<void> {
  const [{ mix }, { openProgress }, { describeMix }] = await Promise.all([
    import("../budget/mix.js"),
    import("../train/progress.js"),
    import("./mix-table.js"),
  ]);
  const result = await stoppable((signal) =>
    mix(
      { ...flags, languages },
      {
        ...{ signal, note, cacheDir: cacheFolder("counts"), threads: Math.min(mostThreads, availableParallelism()) },
        openProgress: (task) => openProgress(task, progressOutput()),
      },
    ),
  );
  printResult(json === true, result, () => describeMix(result));
}

type MixFlags = Omit<MixSettings, "languages" | "condition" | "budget" | "sampling"> & {
  readonly condition: Condition;
  readonly budget: BudgetUnit;
  readonly sampling?: Sampling;
  readonly langs?: readonly string[];
  readonly json?: true;
};
