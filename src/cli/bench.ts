import type { Command } from "commander";
import type { BenchReport } from "../bench/report.js";
import { type BenchSettings, benchDefaults } from "../bench/settings.js";
import type { ShapeFlags } from "../families/family.js";
import { choiceFlag, commaList, deviceNames, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";
import { addShapeFlags } from "./shape-flags.js";

export function registerBench(program: Command): void {
  const size = (flag: string) => numberFlag(flag, { integer: true, min: 1 });
  const command = program
    .command("bench")
    .description(
      "Measures LoRA against FFT on this machine. Without flags: three small models, both methods, fp32 and bf16; on a GPU six of the study's models in bf16.",
    )
    .option("--arch <NAMES>", "bloom, gpt_neox (Pythia), llama, baichuan; several between commas", commaList)
    .option("--preset <NAMES>", "shapes of published models: bloom-560m, pythia-160m, llama-7b, …; several between commas", commaList);
  addShapeFlags(command, "vocabulary size")
    .option(
      "--seq <N>",
      "tokens of a row, one sequence without --sequence-length (default: 256, on a GPU 512)",
      numberFlag("--seq", { integer: true, min: 2 }),
    )
    .option("--micro-batch <N>", "rows of a step (default: 4, on a GPU 16)", size("--micro-batch"))
    .option(
      "--sequence-length <N>",
      "tokens of the sequences packed into each row (default: --seq)",
      numberFlag("--sequence-length", { integer: true, min: 2 }),
    )
    .option("--method <NAME>", "lora, fft or both", choiceFlag("--method", ["lora", "fft", "both"]), "both")
    .option("--lora-rank <N>", "rank of the adapters", size("--lora-rank"), benchDefaults.loraRank)
    .option(
      "--lora-dropout <P>",
      "dropout of the adapters' input",
      numberFlag("--lora-dropout", { min: 0, max: 0.99 }),
      benchDefaults.loraDropout,
    )
    .option(
      "--dtype <TYPE>",
      "fp32 or bf16 (default: both; with --peer or --sweep the machine's own; on a GPU bf16)",
      choiceFlag("--dtype", ["fp32", "bf16"]),
    )
    .option("--device <NAME>", deviceNames, benchDefaults.device)
    .option(
      "--steps <N>",
      "measured steps per case (default: 3 to 15, by their time; 0 with --kernels: none)",
      numberFlag("--steps", { integer: true, min: 0 }),
    )
    .option("--sweep <WHAT>", "vary hidden, layers, seq, rank or micro-batch, values after = between commas: seq=128,256,512")
    .option("--kernels", "also measure every kernel on its own")
    .option("--peer", "also run PyTorch on the same shapes, in turn with ours (POLYPACA_PYTHON names the Python)")
    .option("--save <FILE>", "keep the result, for --compare")
    .option("--compare <FILE>", "compare with a saved result; exits with 1 where a case is slower beyond the noise of both")
    .option("--plot <FILE.svg>", "draw tokens/s and memory, or with --sweep the growth of the cost per token")
    .option("--json", "print the result as JSON")
    .action(async ({ json, save, compare, plot, ...flags }: BenchFlags) => {
      const [{ runBench }, { checkOutputs, writeOutputs }, { compareWithSecondLook, readSavedRun }, { describeReport }] = await Promise.all(
        [import("../bench/bench.js"), import("../bench/outputs.js"), import("../bench/compare.js"), import("../bench/tables.js")],
      );
      const settings = await settingsOf(flags);
      await checkOutputs({ save, plot });
      const before = compare === undefined ? null : await readSavedRun(compare);
      const measure = (asked: BenchSettings) => stoppable((signal) => runBench(asked, { output: progressOutput(), signal }));
      const report = await measure(settings);
      for (const file of await writeOutputs(report, { save, plot })) note(`written: ${file}`);
      const comparison = before && (await compareWithSecondLook(before, report, (keys) => measureAgain(keys, settings, measure)));
      printResult(json === true, { ...report, comparison }, () => describeReport(report, comparison));
      if (comparison !== null && comparison.slower > 0) process.exitCode = 1;
    });
}

function measureAgain(
  keys: readonly string[],
  settings: BenchSettings,
  measure: (settings: BenchSettings) => Promise<BenchReport>,
): Promise<BenchReport> {
  note(
    `${keys.length === 1 ? "one case looks" : `${keys.length} cases look`} slower than before and ${keys.length === 1 ? "is" : "are"} measured again`,
  );
  return measure({ ...settings, keys, kernels: false, peer: false });
}

interface BenchFlags extends ShapeFlags {
  readonly arch?: readonly string[];
  readonly preset?: readonly string[];
  readonly seq?: number;
  readonly sequenceLength?: number;
  readonly microBatch?: number;
  readonly method: "lora" | "fft" | "both";
  readonly loraRank: number;
  readonly loraDropout: number;
  readonly dtype?: "fp32" | "bf16";
  readonly device: string;
  readonly steps?: number;
  readonly sweep?: string;
  readonly kernels?: true;
  readonly peer?: true;
  readonly save?: string;
  readonly compare?: string;
  readonly plot?: string;
  readonly json?: true;
}

async function settingsOf({
  arch,
  preset,
  method,
  dtype,
  sweep,
  ...rest
}: Omit<BenchFlags, "json" | "save" | "compare" | "plot">): Promise<BenchSettings> {
  const { parseSweep } = await import("../bench/sweep.js");
  return {
    ...rest,
    archs: arch,
    presets: preset,
    methods: method === "both" ? undefined : [method],
    dtypes: dtype && [dtype],
    sweep: sweep === undefined ? undefined : parseSweep(sweep),
  };
}
