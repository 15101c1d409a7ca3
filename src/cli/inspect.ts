import type { Command } from "commander";
import type { ModelReport } from "../inspect/inspect-model.js";
import type { MemoryPlan } from "../native/addon-types.js";
import { choiceFlag, deviceNames, formatBytes, numberFlag, printResult } from "./output.js";

export function registerInspect(program: Command): void {
  program
    .command("inspect")
    .description("Shows a model's architecture, parameters, stored types, LoRA targets and the memory that tuning it needs.")
    .argument("<DIR>", "model, a Hugging Face folder")
    .option("--micro-batch-tokens <N>", "for the memory figures", numberFlag("--micro-batch-tokens", { integer: true, min: 1 }), 2048)
    .option("--dtype <TYPE>", "fp32 or bf16, for the memory figures", choiceFlag("--dtype", ["fp32", "bf16"]))
    .option("--device <NAME>", deviceNames, "auto")
    .option("--json", "print the result as JSON")
    .action(async (dir: string, flags: InspectFlags) => {
      const { inspectModel } = await import("../inspect/inspect-model.js");
      const report = await inspectModel(dir, flags);
      printResult(flags.json === true, report, () => describe(report));
    });
}

interface InspectFlags {
  readonly device: string;
  readonly dtype?: "fp32" | "bf16";
  readonly microBatchTokens: number;
  readonly json?: true;
}

function describe(report: ModelReport): string {
  const stored = Object.entries(report.dtypes).map(([dtype, values]) => `${values.toLocaleString("en-US")} in ${dtype}`);
  const memory = (plan: MemoryPlan): string => {
    const parts = (["weights", "gradients", "optimizer", "activations", "head", "scratch"] as const).map(
      (part) => `${part} ${formatBytes(plan[part])}`,
    );
    return `${formatBytes(plan.total)} (${parts.join(", ")})`;
  };
  return [
    `model type         ${report.modelType}`,
    `shape              ${report.layers} layers, hidden ${report.hiddenSize}, ${report.heads} heads (${report.kvHeads} key/value), vocabulary ${report.vocabSize}`,
    `parameters         ${report.parameters.toLocaleString("en-US")} (${report.matmulParameters.toLocaleString("en-US")} multiply activations)`,
    `stored             ${stored.join(", ")}`,
    `LoRA targets       ${report.loraTargets.join(", ")}`,
    `memory, LoRA       ${memory(report.memory.lora)}`,
    `memory, FFT        ${memory(report.memory.fft)}`,
    `                   in ${report.dtype}, micro-batches of ${report.microBatchTokens} tokens`,
  ].join("\n");
}
