import type { Command } from "commander";
import { choiceFlag, deviceNames, numberFlag, printResult } from "./output.js";

export function registerInitModel(program: Command): void {
  const size = (flag: string) => numberFlag(flag, { integer: true, min: 1 });
  program
    .command("init-model")
    .description("Writes a randomly initialised model in Hugging Face form, with a tokenizer.")
    .requiredOption("--out <DIR>", "folder of the model")
    .option("--arch <NAME>", "bloom, gpt_neox, llama or baichuan")
    .option("--preset <NAME>", "shape of a published model: bloom-560m, pythia-1b, llama-7b, …")
    .option("--hidden <N>", "hidden size", size("--hidden"))
    .option("--layers <N>", "blocks", size("--layers"))
    .option("--heads <N>", "attention heads", size("--heads"))
    .option("--kv-heads <N>", "key/value heads (llama)", size("--kv-heads"))
    .option("--intermediate <N>", "width of the MLP", size("--intermediate"))
    .option("--vocab <N>", "vocabulary size (default: the tokenizer's)", size("--vocab"))
    .option("--tokenizer <FILE>", "tokenizer.json or tokenizer.model (default: a byte-level tokenizer is made)")
    .option("--seed <N>", "of the weights", numberFlag("--seed", { integer: true, min: 0 }), 0)
    .option("--dtype <TYPE>", "type of the weights, fp32 or bf16", choiceFlag("--dtype", ["fp32", "bf16"]), "fp32")
    .option("--device <NAME>", deviceNames, "auto")
    .option("--json", "print the result as JSON")
    .action(async ({ json, ...flags }: InitModelFlags) => {
      const { initModel } = await import("../models/init-model.js");
      const result = await initModel({
        ...flags,
        arch: flags.arch ?? null,
        preset: flags.preset ?? null,
        tokenizer: flags.tokenizer ?? null,
      });
      printResult(json === true, result, () => {
        const { out, modelType, parameters, vocabSize, dtype } = result;
        return `${out}: ${modelType}, ${parameters.toLocaleString("en-US")} parameters in ${dtype}, vocabulary ${vocabSize}`;
      });
    });
}

interface InitModelFlags {
  readonly out: string;
  readonly arch?: string;
  readonly preset?: string;
  readonly hidden?: number;
  readonly layers?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly intermediate?: number;
  readonly vocab?: number;
  readonly tokenizer?: string;
  readonly seed: number;
  readonly dtype: "fp32" | "bf16";
  readonly device: string;
  readonly json?: true;
}
