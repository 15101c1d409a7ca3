import type { Command } from "commander";
import { choiceFlag, deviceNames, printResult } from "./output.js";

export function registerMerge(program: Command): void {
  program
    .command("merge")
    .description("Merges an adapter into its base model and writes the result as a Hugging Face folder.")
    .requiredOption("--model <DIR>", "base model")
    .requiredOption("--adapter <DIR>", "PEFT adapter")
    .requiredOption("--out <DIR>", "folder of the merged model")
    .option("--dtype <TYPE>", "fp32 or bf16 (default: as the base is stored)", choiceFlag("--dtype", ["fp32", "bf16"]))
    .option("--device <NAME>", deviceNames, "auto")
    .option("--verify", "compare the written model's logits with base and adapter")
    .option("--json", "print the result as JSON")
    .action(async ({ verify, json, ...settings }: MergeFlags) => {
      const { mergeAdapter } = await import("../models/merge.js");
      const result = await mergeAdapter({ ...settings, verify: verify === true });
      printResult(json === true, result, () => {
        const { verification } = result;
        const checked = verification
          ? `\nlogits equal base and adapter to ${verification.relativeL2.toExponential(2)} (relative L2; at most ${verification.tolerance})`
          : "";
        return `merged ${settings.adapter} into ${result.out} (${result.parameters} parameters, ${result.dtype})${checked}`;
      });
    });
}

interface MergeFlags {
  readonly model: string;
  readonly adapter: string;
  readonly out: string;
  readonly device: string;
  readonly dtype?: "fp32" | "bf16";
  readonly verify?: true;
  readonly json?: true;
}
