import type { Command } from "commander";
import type { ShapeFlags } from "../families/family.js";
import { choiceFlag, deviceNames, numberFlag, printResult } from "./output.js";
import { addShapeFlags } from "./shape-flags.js";

export function registerInitModel(program: Command): void {
  const command = program
    .command("init-model")
    .description("Writes a randomly initialised model in Hugging Face form, with a tokenizer.")
    .requiredOption("--out <DIR>", "folder of the model")
    .option("--arch <NAME>", "bloom, gpt_neox, llama or baichuan")
    .option("--preset <NAME>", "shape of a published model: bloom-560m, pythia-1b, llama-7b, …");
  addShapeFlags(command, "vocabulary size (default: the tokenizer's)")
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

interface InitModelFlags extends ShapeFlags {
  readonly out: string;
  readonly arch?: string;
  readonly preset?: string;
  readonly tokenizer?: string;
  readonly seed: number;
  readonly dtype: "fp32" | "bf16";
  readonly device: string;
  readonly json?: true;
}
