#!/usr/bin/env node
/** The `polypaca` program: dispatches to a command, prints errors as `CODE: message`, sets the exit code. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError, type ParseOptionsResult } from "commander";
import { isUsageError, PolypacaError } from "../errors.js";
import { packageRoot } from "../native/load.js";
import { registerAgreement } from "./agreement.js";
import { registerBench } from "./bench.js";
import { registerChat } from "./chat.js";
import { registerDemo } from "./demo.js";
import { registerDoctor } from "./doctor.js";
import { registerExperiment } from "./experiment.js";
import { registerFetch } from "./fetch.js";
import { registerFigures } from "./figures.js";
import { registerGenerate } from "./generate.js";
import { registerGpuCheck } from "./gpu-check.js";
import { registerInitModel } from "./init-model.js";
import { registerInspect } from "./inspect.js";
import { registerJudge } from "./judge.js";
import { registerMerge } from "./merge.js";
import { registerMix } from "./mix.js";
import { registerPlan } from "./plan.js";
import { registerScore } from "./score.js";
import { registerServe } from "./serve.js";
import { registerTrain } from "./train.js";
import { registerTranslate } from "./translate.js";
import { registerVerify } from "./verify.js";

/** A mistyped flag is called unknown, with the one that was meant; commander would first miss the required one. */
class CommandLine extends Command {
  override createCommand(name?: string): CommandLine {
    return new CommandLine(name);
  }

  override parseOptions(args: string[]): ParseOptionsResult {
    const parsed = super.parseOptions(args);
    if (parsed.unknown.length > 0) for (const option of this.options) option.mandatory = false;
    return parsed;
  }
}

function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
  const program = new CommandLine("polypaca")
    .description("Multilingual instruction tuning of causal language models: LoRA and full-parameter fine-tuning.")
    .version(version)
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ outputError: () => {} }); // errors are printed once, in `fail`
  const register = [
    registerDemo,
    registerFetch,
    registerTranslate,
    registerMix,
    registerPlan,
    registerTrain,
    registerGenerate,
    registerJudge,
    registerScore,
    registerAgreement,
    registerFigures,
    registerExperiment,
    registerVerify,
    registerInspect,
    registerDoctor,
    registerInitModel,
    registerMerge,
    registerServe,
    registerChat,
    registerBench,
    registerGpuCheck,
  ];
  for (const add of register) add(program);
  return program;
}

/** Exit codes: 0 done, 1 failed, 2 wrong usage or bad input. */
function fail(cause: unknown): void {
  if (cause instanceof CommanderError) {
    if (cause.exitCode === 0) return; // --help and --version have printed what they print
    // `polypaca` alone prints its help and is still no command.
    if (cause.code !== "commander.help") process.stderr.write(`USAGE: ${cause.message.replace(/^error: /, "").replaceAll("\n", " ")}\n`);
    process.exitCode = 2;
    return;
  }
  const error = PolypacaError.from(cause);
  process.stderr.write(`${error.code}: ${error.message}\n`);
  if (error.code === "INTERNAL" && cause instanceof Error) process.stderr.write(`${cause.stack ?? ""}\n`);
  // A signal has set its own code already.
  process.exitCode ||= isUsageError(error) ? 2 : 1;
}

/** `polypaca … | head` closes the pipe: not an error. */
function endQuietlyWithPipe(stream: NodeJS.WriteStream): void {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(process.exitCode ?? 0);
    throw error;
  });
}

endQuietlyWithPipe(process.stdout);
endQuietlyWithPipe(process.stderr);
try {
  await createProgram().parseAsync();
} catch (cause) {
  fail(cause);
}
