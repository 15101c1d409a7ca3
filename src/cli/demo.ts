import type { Command } from "commander";
import type { DemoResult } from "../demo/demo.js";
import type { TrainSummary } from "../train/session.js";
import { cacheFolder, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

export function registerDemo(program: Command): void {
  program
    .command("demo")
    .description(
      "the study in miniature: trains a tiny base on the bundled sample, tunes it with LoRA and with FFT, answers a few questions",
    )
    .option("--out <DIR>", "folder for everything it makes", "polypaca-demo")
    .option("--seed <N>", "of initialisation, order and dropout", numberFlag("--seed", { integer: true, min: 0 }), 42)
    .option("--json", "print the result as one JSON object")
    .action(async ({ out, seed, json }: { readonly out: string; readonly seed: number; readonly json?: true }) => {
      const [{ runDemo }, { openProgress }] = await Promise.all([import("../demo/demo.js"), import("../train/progress.js")]);
      const result = await stoppable((signal) =>
        runDemo(
          { out, seed },
          { signal, note, now: Date.now, cacheDir: cacheFolder("tokens"), openProgress: (task) => openProgress(task, progressOutput()) },
        ),
      );
      printResult(json === true, result, () => describe(result));
    });
}

function describe({ out, base, lora, fft, answers }: DemoResult): string {
  const row = (name: string, { validationLoss, tokensPerSecond, peakMemoryBytes, steps }: TrainSummary): string =>
    [
      name.padEnd(6),
      String(steps).padStart(6),
      `${validationLoss.first?.toFixed(3) ?? "-"} → ${validationLoss.best?.toFixed(3) ?? "-"}`.padStart(17),
      Math.round(tokensPerSecond).toString().padStart(10),
      `${Math.round(peakMemoryBytes / 2 ** 20)} MiB`.padStart(10),
    ].join("  ");
  const lines = [
    ["".padEnd(6), "steps".padStart(6), "validation loss".padStart(17), "tokens/s".padStart(10), "peak".padStart(10)].join("  "),
    ...(base ? [row("base", base)] : []),
    row("LoRA", lora),
    row("FFT", fft),
    "",
    ...answers.flatMap(({ language, prompt, lora: a, fft: b }) => [
      `[${language}] ${prompt}`,
      `  LoRA: ${oneLine(a)}`,
      `  FFT:  ${oneLine(b)}`,
    ]),
    "",
    `The base saw a few hundred short texts: it has learnt what sentences look like, not what is true.`,
    `Everything is in ${out}: runs, checkpoints, metrics, responses.`,
  ];
  return lines.join("\n");
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}
