import { type Command, Option } from "commander";
import { commaList, note, printResult, stoppable } from "./output.js";

export function registerGpuCheck(program: Command): void {
  program
    .command("gpu-check")
    .description(
      "Checks and measures this build on a GPU: doctor, kernel tests, reference cases, short training against the CPU, compute-sanitizer, bench. Exits with 1 where a part fails.",
    )
    .option("--out <DIR>", "folder of gpu-check.json and gpu-check.md", "gpu-check")
    .option("--parts <NAMES>", "doctor, kernels, goldens, training, sanitizer, bench; several between commas (default: all)", commaList)
    .option("--presets <NAMES>", "models of the bench, between commas (default: six of the study's)", commaList)
    .option("--no-peer", "leave out PyTorch beside the bench")
    .addOption(new Option("--device <NAME>", "another device, to try the check itself").default("cuda").hideHelp())
    .option("--json", "print the result as JSON")
    .action(async ({ json, parts, presets, ...flags }: GpuCheckFlags) => {
      const { gpuCheck } = await import("../gpu-check/gpu-check.js");
      const { summaryText } = await import("../gpu-check/summary.js");
      const settings = { ...flags, parts: parts ?? null, presets: presets ?? null };
      const clock = { now: () => performance.now(), startedAt: new Date().toISOString() };
      const report = await stoppable((signal) => gpuCheck(settings, { ...clock, onLine: note, signal }));
      printResult(json === true, report, () => summaryText(report));
      note(`written: ${flags.out}/gpu-check.json and gpu-check.md`);
      if (!report.passed) process.exitCode = 1;
    });
}

interface GpuCheckFlags {
  readonly out: string;
  readonly device: string;
  readonly parts?: readonly string[];
  readonly presets?: readonly string[];
  readonly peer: boolean;
  readonly json?: true;
}
