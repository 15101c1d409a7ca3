import type { Command } from "commander";
import type { ChatSettings } from "../chat/chat.js";
import type { DecodingSettings } from "../generate/decoding.js";
import { decodingOf, noRepeatNgramSize } from "./generate.js";
import { choiceFlag, deviceNames, note, numberFlag } from "./output.js";

export function registerChat(program: Command): void {
  const atLeast = (flag: string, min: number) => numberFlag(flag, { integer: true, min });
  program
    .command("chat")
    .summary("talk to a model in the terminal")
    .description(
      "Answers what is typed, as it is generated; with piped input, one message per line. A model with a chat template sees the whole conversation, with the study's template each line stands alone.",
    )
    .requiredOption("--model <DIR>", "model, a Hugging Face folder")
    .option("--adapter <DIR>", "PEFT adapter for it")
    .option("--template <FILE>", "prompt template, or a chat template *.jinja (default: the model's own)")
    .option("--system <TEXT>", "what stands before the conversation")
    .option("--max-new-tokens <N>", "longest answer", atLeast("--max-new-tokens", 1))
    .addOption(noRepeatNgramSize())
    .option("--repetition-penalty <X>", "1: none", numberFlag("--repetition-penalty", { min: 0.01 }))
    .option("--temperature <X>", "above 0: sampling", numberFlag("--temperature", { min: 0 }))
    .option("--top-k <N>", "sample among the N likeliest; 0: off", atLeast("--top-k", 0))
    .option("--top-p <P>", "sample among the likeliest with this share; 1: off", numberFlag("--top-p", { min: 0, max: 1 }))
    .option("--seed <N>", "of sampling", numberFlag("--seed", { integer: true, min: 0 }), 0)
    .option("--dtype <TYPE>", "fp32 or bf16 (default: bf16 where the hardware has it)", choiceFlag("--dtype", ["fp32", "bf16"]))
    .option("--device <NAME>", deviceNames, "auto")
    .option("--json", "print each answer as a line of JSON, {message, answer}, instead of streaming it")
    .action(async (flags: ChatFlags) => {
      const { chat } = await import("../chat/chat.js");
      const settings: ChatSettings = {
        ...{ model: flags.model, seed: flags.seed, device: flags.device, decoding: decodingOf(flags) },
        ...{ adapter: flags.adapter ?? null, template: flags.template ?? null, system: flags.system ?? null, dtype: flags.dtype ?? null },
      };
      const isJson = flags.json === true;
      const isTerminal = !isJson && process.stdin.isTTY === true && process.stdout.isTTY === true;
      const terminal = { input: process.stdin, output: process.stdout, isTerminal, isJson, note, onInterrupt };
      const end = await chat(settings, terminal, () => new Date());
      if (end === "interrupted") process.exitCode = 130; // 128 + SIGINT
    });
}

type ChatFlags = Partial<DecodingSettings> & {
  readonly model: string;
  readonly adapter?: string;
  readonly template?: string;
  readonly system?: string;
  readonly seed: number;
  readonly dtype?: "fp32" | "bf16";
  readonly device: string;
  readonly json?: true;
};

/** The second SIGINT ends the process, whatever it is doing. */
function onInterrupt(listener: () => void): () => void {
  let count = 0;
  const handler = (): void => {
    if (count++ > 0) process.exit(130);
    listener();
  };
  process.on("SIGINT", handler);
  return () => void process.off("SIGINT", handler);
}
