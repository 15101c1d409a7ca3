import { type Command, Option } from "commander";
import { PolypacaError } from "../errors.js";
import type { TrainSummary } from "../train/session.js";
import type { SettingName, SomeSettings } from "../train/settings.js";
import { cacheFolder, commaList, deviceNames, formatBytes, note, numberOrText, printResult, progressOutput, stoppable } from "./output.js";

type FlagKind = "number" | "text" | "list" | "files" | "switch";

/** The settings as flags; names and values are those of settings.ts, which checks them. */
export const trainFlags: readonly (readonly [SettingName, FlagKind, string, string])[] = [
  ["model", "text", "DIR", "model to tune, a Hugging Face folder"],
  ["data", "files", "FILE...", "Alpaca JSON or JSONL, mixed in this order"],
  ["method", "text", "lora|fft", "what is trained: an adapter, or every weight"],
  ["out", "text", "DIR", "run folder"],
  ["preset", "text", "NAME", "paper-lora or paper-fft (default: paper-<method>)"],
  ["loraRank", "number", "N", "rank of the adapter"],
  ["loraAlpha", "number", "X", "the adapter's share is scaled by alpha / rank"],
  ["loraDropout", "number", "P", "dropout of the adapter's input"],
  ["loraTargets", "list", "A,B", "modules that get an adapter (default: the study's key, query, value)"],
  ["learningRate", "number", "X", "peak learning rate"],
  ["epochs", "number", "N", "passes over the data"],
  ["maxSteps", "number", "N", "steps, instead of --epochs"],
  ["batchSize", "number", "N", "examples per optimiser step"],
  ["microBatchTokens", "number", "N", "tokens of a packed micro-batch (default: the largest that fits the memory)"],
  ["cutoff", "number", "N", "longest example in tokens"],
  ["warmupSteps", "number", "N", 'steps of warm-up, or a share of the steps: "3%"'],
  ["scheduler", "text", "NAME", "linear, cosine or constant"],
  ["optimizer", "text", "NAME", "adamw, or adamw8bit: moments of 8 bits, a quarter of their memory"],
  ["weightDecay", "number", "X", "decoupled weight decay, on matrices only"],
  ["maxGradNorm", "number", "X", "gradients are clipped to this norm; 0: not clipped"],
  ["trainOn", "text", "WHAT", "prompt+response or response"],
  ["template", "text", "FILE", "prompt template in the study's JSON form"],
  ["validationSize", "number", "N", "records held out of --data"],
  ["validationFile", "text", "FILE", "validation data, instead of --validation-size"],
  ["evalEvery", "number", "N", "steps between evaluations"],
  ["saveEvery", "number", "N", "steps between checkpoints"],
  ["saveTotalLimit", "number", "N", "checkpoints kept; best and last always are"],
  ["earlyStopping", "number", "N", "stop after so many evaluations without improvement"],
  ["seed", "number", "N", "of data order, split, initial adapter and dropout"],
  ["dtype", "text", "TYPE", "fp32 or bf16 (default: bf16 where the hardware has it)"],
  ["device", "text", "NAME", deviceNames],
  ["recompute", "text", "WHAT", "none, or block: less memory, more time"],
  ["packing", "text", "on|off", "several examples per micro-batch row of tokens"],
  ["resume", "switch", "", "go on with the run in --out, or start it where there is none"],
  ["dryRun", "switch", "", "show tokens, mask, counts and memory, and train nothing"],
  ["skipBadRecords", "switch", "", "leave malformed records out and list them"],
  ["maxEmptyShare", "number", "P", "share of examples that may be without a target"],
  ["allowOvercommit", "switch", "", "start even where the predicted memory does not fit"],
];

export function registerTrain(program: Command): void {
  const command = program
    .command("train")
    .summary("tune a model with LoRA or full-parameter fine-tuning")
    .description("Tunes a model on Alpaca data. Values come from the preset, then --config, then the flags.");
  for (const [name, kind, argument, description] of trainFlags) command.addOption(optionFor(name, kind, argument, description));
  command.option("--config <FILE>", "YAML file with the same settings in camelCase").option("--json", "print the result as JSON");
  command.action(async (options: Record<string, unknown>) => {
    const { config, json, ...flags } = options;
    const [{ readConfigFile }, { checkSomeSettings }, { resolveSettings }, { train }] = await Promise.all([
      import("../settings/config-file.js"),
      import("../train/settings.js"),
      import("../train/resolve-settings.js"),
      import("../train/train.js"),
    ]);
    const fromFile = typeof config === "string" ? await readConfigFile(config, checkSomeSettings) : {};
    const settings = resolveSettings(fromFile, await checkFlags(flags));
    const { openProgress } = await import("../train/progress.js");
    const result = await stoppable((signal) =>
      train(settings, {
        signal,
        now: Date.now,
        note,
        cacheDir: cacheFolder("tokens"),
        openProgress: (task) => openProgress(task, progressOutput()),
      }),
    );
    if (result.kind === "preview") printResult(json === true, result.preview, () => result.text);
    else printResult(json === true, result.summary, () => describe(result.summary));
  });
}

function optionFor(name: SettingName, kind: FlagKind, argument: string, description: string): Option {
  const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const option = new Option(kind === "switch" ? flag : `${flag} <${argument}>`, description);
  if (kind === "number") option.argParser(numberOrText);
  if (kind === "list") option.argParser(commaList);
  return option;
}

async function checkFlags(flags: Record<string, unknown>): Promise<SomeSettings> {
  const [{ checkSomeSettings }, { flagOf }] = await Promise.all([import("../train/settings.js"), import("../settings/check-settings.js")]);
  const checked = checkSomeSettings(flags);
  if ("settings" in checked) return checked.settings;
  const lines = checked.issues.map(({ path, message }) => {
    const name = String(path[0]);
    return `${flagOf(name)} ${String(flags[name])}: ${message}`;
  });
  throw new PolypacaError("USAGE", lines.join("\n"));
}

function describe(summary: TrainSummary): string {
  const { run, steps, tokens, loss, validationLoss, best, last, tokensPerSecond, peakMemoryBytes } = summary;
  const range = (from: number | null, to: number | null): string => `${from?.toFixed(4) ?? "-"} → ${to?.toFixed(4) ?? "-"}`;
  const lines = [
    `run              ${run}`,
    `steps            ${steps} (${tokens} tokens, ${Math.round(tokensPerSecond)} tokens/s)`,
    `loss             ${range(loss.first, loss.last)}`,
  ];
  if (validationLoss.first !== null) {
    lines.push(`validation loss  ${range(validationLoss.first, validationLoss.last)}, best ${validationLoss.best?.toFixed(4) ?? "-"}`);
  }
  if (best !== null) lines.push(`best checkpoint  ${best}`);
  lines.push(`last checkpoint  ${last ?? "-"}`, `peak memory      ${formatBytes(peakMemoryBytes)}`);
  return lines.join("\n");
}
