import { type Command, Option } from "commander";
import type { DecodingSettings } from "../generate/decoding.js";
import { choiceFlag, deviceNames, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

export function registerGenerate(program: Command): void {
  const atLeast = (flag: string, min: number) => numberFlag(flag, { integer: true, min });
  program
    .command("generate")
    .description("Answers prompts in batches. Rows that --out has already are not generated again.")
    .requiredOption("--model <DIR>", "model, a Hugging Face folder")
    .option("--adapter <DIR>", "PEFT adapter for it")
    .requiredOption("--prompts <FILE...>", "JSONL of {id, prompt}")
    .requiredOption("--out <FILE>", "responses, JSONL")
    .option(
      "--preset <NAME>",
      "paper-lora or paper-fft (default: by how the model was tuned)",
      choiceFlag("--preset", ["paper-lora", "paper-fft"]),
    )
    .option("--num-beams <N>", "beams; 1: greedy, or sampling with --temperature", atLeast("--num-beams", 1))
    .option("--max-new-tokens <N>", "longest answer", atLeast("--max-new-tokens", 1))
    .addOption(noRepeatNgramSize())
    .option("--repetition-penalty <X>", "1: none", numberFlag("--repetition-penalty", { min: 0.01 }))
    .option("--temperature <X>", "above 0: sampling", numberFlag("--temperature", { min: 0 }))
    .option("--top-k <N>", "sample among the N likeliest; 0: off", atLeast("--top-k", 0))
    .option("--top-p <P>", "sample among the likeliest with this share; 1: off", numberFlag("--top-p", { min: 0, max: 1 }))
    .option("--length-penalty <X>", "exponent of the length in a beam's score", numberFlag("--length-penalty"))
    .option("--batch-size <N>", "prompts decoded together", atLeast("--batch-size", 1), 16)
    .option("--language <CODE>", "of prompts that do not say theirs (default: the file name, test_<code>.jsonl)")
    .option("--template <FILE>", "prompt template (default: the one the model was tuned with)")
    .option("--system <NAME>", "name of the system in the rows (default: the run folder's)")
    .option("--condition <NAME>", "budget condition in the rows")
    .option("--seed <N>", "of sampling", numberFlag("--seed", { integer: true, min: 0 }), 0)
    .option("--dtype <TYPE>", "fp32 or bf16 (default: bf16 where the hardware has it)", choiceFlag("--dtype", ["fp32", "bf16"]))
    .option("--device <NAME>", deviceNames, "auto")
    .option("--skip-bad-records", "leave malformed prompts out and list them")
    .option("--json", "print the result as JSON")
    .action(async (flags: GenerateFlags) => {
      const [{ generate }, { openProgress }] = await Promise.all([import("../generate/generate.js"), import("../train/progress.js")]);
      const { model, prompts, out, batchSize, seed, device } = flags;
      const settings = {
        ...{ model, prompts, out, batchSize, seed, device, decoding: decodingOf(flags) },
        ...{ adapter: flags.adapter ?? null, preset: flags.preset ?? null, language: flags.language ?? null },
        ...{ template: flags.template ?? null, system: flags.system ?? null, condition: flags.condition ?? null },
        ...{ dtype: flags.dtype ?? null, skipBadRecords: flags.skipBadRecords === true },
      };
      const summary = await stoppable((signal) =>
        generate(settings, { signal, note, now: () => performance.now(), openProgress: (task) => openProgress(task, progressOutput()) }),
      );
      printResult(flags.json === true, summary, () => {
        const rate = summary.tokens > 0 ? ` (${summary.tokens} tokens, ${Math.round(summary.tokensPerSecond)} tokens/s)` : "";
        return `${summary.out}: ${summary.responses} responses${rate}`;
      });
    });
}

/** Commander takes any --no-… for the denial of a switch; this is a number of its own. */
export function noRepeatNgramSize(): Option {
  const flag = "--no-repeat-ngram-size";
  const option = new Option(`${flag} <N>`, "n-grams of this size may not come twice; 0: off");
  option.negate = false;
  return option.argParser(numberFlag(flag, { integer: true, min: 0 }));
}

type GenerateFlags = Partial<DecodingSettings> & {
  readonly model: string;
  readonly adapter?: string;
  readonly prompts: readonly string[];
  readonly out: string;
  readonly preset?: "paper-lora" | "paper-fft";
  readonly batchSize: number;
  readonly language?: string;
  readonly template?: string;
  readonly system?: string;
  readonly condition?: string;
  readonly seed: number;
  readonly dtype?: "fp32" | "bf16";
  readonly device: string;
  readonly skipBadRecords?: true;
  readonly json?: true;
};

const decodingNames = [
  "numBeams",
  "maxNewTokens",
  "noRepeatNgramSize",
  "repetitionPenalty",
  "temperature",
  "topK",
  "topP",
  "lengthPenalty",
] as const satisfies readonly (keyof DecodingSettings)[];

/** The decoding settings that were given. */
export function decodingOf(flags: Partial<DecodingSettings>): Partial<DecodingSettings> {
  return Object.fromEntries(decodingNames.filter((name) => flags[name] !== undefined).map((name) => [name, flags[name]]));
}
