import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { budgetUnits } from "../budget/costs.js";
import { conditions } from "../budget/mix-settings.js";
import { PolypacaError } from "../errors.js";
import type { TrainRecipe } from "../plan/plan-grid.js";
import type { ByKey, PlanSettings } from "../plan/plan-settings.js";
import { cacheFolder, choiceFlag, commaList, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

const mostThreads = 4;

export function registerPlan(program: Command): void {
  const command = program
    .command("plan")
    .summary("predict tokens, memory, hours and cost of a run or a grid")
    .description(
      "Predicts what training takes, for every combination of models, methods and conditions: tokens, FLOPs, memory of one device, hours and " +
        "cost, at rates that polypaca bench measured or that you give. Shows how equal the conditions' budgets are: monolingual and " +
        "multilingual should cost N x C, english and downsampled C.",
    )
    .requiredOption("--model <NAME...>", "model folders (no weights are read), or published models such as bloom-560m")
    .option("--method <A,B>", "lora, fft (default: both)", choices("--method", ["lora", "fft"]))
    .option("--condition <A,B>", "monolingual, multilingual, english, downsampled (default: all)", choices("--condition", conditions))
    .option("--langs <A,B>", "languages by code (default: those of --data-dir, else the study's nine)", commaList)
    .option("--budget <UNIT>", "what C is counted in: examples, tokens or flops (default: examples)", choiceFlag("--budget", budgetUnits))
    .option("--match-budget", "trim or repeat english to C");
  addDataFlags(command);
  addHardwareFlags(command);
  addRecipeFlags(command);
  command.option("--json", "print the result as JSON").action(runPlan);
}

function addDataFlags(command: Command): void {
  command
    .option("--data-dir <DIR>", "folder of alpaca.<lang>.json, whose tokens are counted")
    .option("--tokenizer <DIR>", "folder of the tokenizer that counts them (default: the model's)")
    .option("--skip-bad-records", "leave malformed records out")
    .option("--records <N>", "without --data-dir: records per language, or en=N,fi=M (default: 52000)", byKey("--records"))
    .option("--tokens-per-record <X>", "without --data-dir: their mean length, or en=X,fi=Y", byKey("--tokens-per-record"))
    .option("--response-tokens-per-record <X>", "without --data-dir, for fft: of it the response", byKey("--response-tokens-per-record"));
}

function addHardwareFlags(command: Command): void {
  const positive = (flag: string) => numberFlag(flag, { min: Number.MIN_VALUE });
  command
    .option("--bench <FILE...>", "rates measured by polypaca bench --save")
    .option("--tflops <X>", "peak of the device, with --utilization", positive("--tflops"))
    .option("--utilization <X>", "share of the peak that training reaches, or lora=X,fft=Y", byKey("--utilization"))
    .option("--tokens-per-second <X>", "rate of one model and method", positive("--tokens-per-second"))
    .option("--device <NAME>", "cpu or cuda (default: that of --bench, else this machine's)", choiceFlag("--device", ["cpu", "cuda"]))
    .option("--device-memory <GIB>", "memory of one device (default: that of --bench, else this machine's)", positive("--device-memory"))
    .option("--price-per-hour <X>", "of one device, to show the cost", numberFlag("--price-per-hour", { min: 0 }));
}

/** In place of what paper-lora and paper-fft say. */
function addRecipeFlags(command: Command): void {
  const count = (name: string, what: string) => command.option(`--${name} <N>`, what, numberFlag(`--${name}`, { integer: true, min: 1 }));
  command.option("--epochs <X>", "as train (default: the preset's, lora 5, fft 3)", numberFlag("--epochs", { min: Number.MIN_VALUE }));
  count("max-steps", "as train, in place of epochs");
  count("batch-size", "as train (default: lora 128, fft 256)");
  count("cutoff", "as train (default: 512)");
  count("lora-rank", "as train (default: 8)");
  command.option("--validation-size <N>", "as train (default: 1000)", numberFlag("--validation-size", { integer: true, min: 0 }));
  count("eval-every", "as train (default: 200)");
  count("micro-batch-tokens", "as train (default: the largest that fits)");
  command
    .option("--recompute <HOW>", "none or block", choiceFlag("--recompute", ["none", "block"]))
    .option("--optimizer <NAME>", "adamw or adamw8bit", choiceFlag("--optimizer", ["adamw", "adamw8bit"]))
    .option("--dtype <TYPE>", "fp32 or bf16 (default: bf16 where the hardware has it)", choiceFlag("--dtype", ["fp32", "bf16"]));
}

type RecipeFlags = Partial<
  Pick<
    TrainRecipe,
    | "epochs"
    | "maxSteps"
    | "batchSize"
    | "cutoff"
    | "loraRank"
    | "validationSize"
    | "evalEvery"
    | "microBatchTokens"
    | "recompute"
    | "optimizer"
  >
>;

type PlanFlags = RecipeFlags &
  Omit<PlanSettings, "models" | "methods" | "conditions" | "languages" | "recipe" | "deviceMemoryBytes"> & {
    readonly model: readonly string[];
    readonly method?: PlanSettings["methods"];
    readonly condition?: PlanSettings["conditions"];
    readonly langs?: readonly string[];
    readonly deviceMemory?: number;
    readonly json?: true;
  };

async function runPlan(flags: PlanFlags): Promise<void> {
  const [{ plan }, { openProgress }, { describePlan }] = await Promise.all([
    import("../plan/plan.js"),
    import("../train/progress.js"),
    import("./plan-table.js"),
  ]);
  const { model, method, condition, langs, deviceMemory, json, ...others } = flags;
  const { epochs, maxSteps, batchSize, cutoff, loraRank, validationSize, evalEvery, microBatchTokens, recompute, optimizer, ...rest } =
    others;
  const recipe = defined({
    epochs,
    maxSteps,
    batchSize,
    cutoff,
    loraRank,
    validationSize,
    evalEvery,
    microBatchTokens,
    recompute,
    optimizer,
  });
  const deviceMemoryBytes = deviceMemory === undefined ? undefined : deviceMemory * 2 ** 30;
  const settings: PlanSettings = {
    ...rest,
    models: model,
    methods: method,
    conditions: condition,
    languages: langs,
    deviceMemoryBytes,
    recipe,
  };
  const result = await stoppable((signal) =>
    plan(settings, {
      ...{ signal, note, cacheDir: cacheFolder("counts"), threads: Math.min(mostThreads, availableParallelism()) },
      openProgress: (task) => openProgress(task, progressOutput()),
    }),
  );
  printResult(json === true, result, () => describePlan(result));
}

function defined(flags: { readonly [name in keyof RecipeFlags]: RecipeFlags[name] | undefined }): RecipeFlags {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) as RecipeFlags;
}

function choices<const T extends string>(flag: string, names: readonly T[]) {
  const choice = choiceFlag(flag, names);
  return (text: string): T[] => [...new Set(commaList(text).map(choice))];
}

/** A number, or numbers by key between commas: "170", "en=150,fi=260". */
function byKey(flag: string) {
  const number = numberFlag(flag, { min: Number.MIN_VALUE });
  return (text: string): ByKey => {
    if (!text.includes("=")) return number(text);
    const entries = commaList(text).map((part): [string, number] => {
      const [key, value, more] = part.split("=");
      if (!key || value === undefined || more !== undefined)
        throw new PolypacaError("USAGE", `${flag} ${text}: expected a number, or key=number between commas.`);
      return [key, number(value)];
    });
    return Object.fromEntries(entries);
  };
}
