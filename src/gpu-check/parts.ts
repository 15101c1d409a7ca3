/** The parts of `gpu-check`, one function each: what it found, never an exception for what failed. */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { BenchReport } from "../bench/report.js";
import { PolypacaError } from "../errors.js";
import { packageRoot } from "../native/load.js";
import { isCuda } from "../native/model.js";
import { limitsOf } from "../verify/limits.js";
import type { CaseReport } from "../verify/verify-case.js";
import { openDevice, type ShortRun, shortRunBatches, trainBriefly } from "./device-job.js";
import type { PartName, PartResult } from "./report.js";
import { programPath, runChild, runCommand, whyItEnded } from "./run-child.js";

export interface PartContext {
  readonly device: string;
  /** Where a part may leave files. */
  readonly out: string;
  /** Models of the bench; null: the bench's own list. */
  readonly presets: readonly string[] | null;
  readonly peer: boolean;
  readonly onLine: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export type Finding = Pick<PartResult, "status" | "reasons" | "details">;

const passed = (details: Finding["details"]): Finding => ({ status: "passed", reasons: [], details });
const skipped = (reason: string): Finding => ({ status: "skipped", reasons: [reason], details: {} });
/** Failed where there is a reason, else passed. */
const judged = (reasons: readonly string[], details: Finding["details"]): Finding =>
  reasons.length === 0 ? passed(details) : { status: "failed", reasons, details };

export const partFunctions: Readonly<Record<PartName, (context: PartContext) => Promise<Finding>>> = {
  doctor: checkDoctor,
  kernels: checkKernels,
  goldens: checkGoldens,
  training: checkTraining,
  sanitizer: checkSanitizer,
  bench: runBenches,
};

/** The addon loads, and the device opens. */
async function checkDoctor({ device, signal }: PartContext): Promise<Finding> {
  const { result, problem } = await runCommand(["doctor"], { timeoutSeconds: 120, signal });
  const diagnosis = result ?? {};
  if (problem !== null) return judged([`doctor ${problem}`], diagnosis);
  try {
    await openDevice(device);
    return passed(diagnosis);
  } catch (cause) {
    const error = PolypacaError.from(cause);
    return judged([`${device}: ${error.message}`], diagnosis);
  }
}

interface VitestReport {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly message?: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** The tests of single ops, as `npm test` runs them, on this device: test/ops/probe.ts reads the variable. */
async function checkKernels({ device, out, signal }: PartContext): Promise<Finding> {
  const root = packageRoot();
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  if (!existsSync(vitest) || !existsSync(join(root, "test/ops")))
    return skipped("vitest or test/ops is not here: run it in a checkout or the offline bundle");
  const file = join(out, "kernels.json");
  rmSync(file, { force: true });
  const args = [vitest, "run", "test/ops", "--reporter=json", `--outputFile=${file}`];
  const child = await runChild(process.execPath, args, { env: { POLYPACA_TEST_DEVICE: device }, timeoutSeconds: 1800, signal });
  if (!existsSync(file)) return judged([`vitest ${whyItEnded(child)}`], {});
  const report = JSON.parse(readFileSync(file, "utf8")) as VitestReport;
  const { numTotalTests: tests, numPassedTests: passedTests, numFailedTests: failedTests } = report;
  const broken = report.testResults
    .filter(({ status, assertionResults }) => status === "failed" && !assertionResults.some((test) => test.status === "failed"))
    .map(({ name, message }) => `${name}: ${message?.split("\n")[0] ?? "did not run"}`);
  const failures = report.testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === "failed").map(({ fullName }) => fullName),
  );
  const nothing = passedTests === 0 && failedTests === 0 ? ["no test ran"] : [];
  return judged([...nothing, ...broken, ...failures], { tests, passed: passedTests, failed: failedTests });
}

/** Every reference case and variant, a process each. */
async function checkGoldens({ device, onLine, signal }: PartContext): Promise<Finding> {
  const goldens = join(packageRoot(), "test/goldens");
  if (!existsSync(goldens)) return skipped("test/goldens is not here: run it in a checkout or the offline bundle");
  const below = (folder: string): string[] =>
    readdirSync(folder)
      .sort()
      .map((name) => join(folder, name));
  const folders = [...below(goldens).filter((path) => existsSync(join(path, "case.json"))), ...below(join(goldens, "variants"))];
  const cases: unknown[] = [];
  const reasons: string[] = [];
  for (const folder of folders) {
    const { result, problem } = await runCommand(["verify", folder, "--device", device], { timeoutSeconds: 900, signal });
    const report = (result?.cases as readonly CaseReport[] | undefined)?.[0];
    const name = folder.slice(goldens.length + 1);
    if (report) cases.push(report);
    else reasons.push(`${name}: verify ${problem}`);
    if (report?.passed === false) reasons.push(...report.failures.map((failure) => `${name}: ${failure}`));
    onLine(`goldens: ${name} ${report?.passed ? "passed" : "FAILED"}`);
  }
  return judged(reasons, { cases });
}

/** Where the emulator stands in for a GPU, every operation costs thousands. */
function shortRuns(device: string): Omit<ShortRun, "device" | "dtype">[] {
  const isSmall = device === "cuda-emulated";
  const sizes = isSmall ? { sequenceLength: 24, sequences: 2, steps: 4 } : { sequenceLength: 64, sequences: 4, steps: 12 };
  const shape = isSmall ? { hidden: 64, layers: 1, heads: 2, vocab: 200 } : { hidden: 256, layers: 2, heads: 4, vocab: 1000 };
  return ["bloom", "gpt_neox", "llama", "baichuan"].flatMap((modelType) => [
    { modelType, shape, ...sizes, method: "lora" as const, learningRate: 1e-2 },
    { modelType, shape, ...sizes, method: "fft" as const, learningRate: 2e-4 },
  ]);
}

/** LoRA and FFT of every family: each step's loss in bf16 on the device against fp32 on the CPU, on the same data. */
async function checkTraining({ device, onLine }: PartContext): Promise<Finding> {
  const reasons: string[] = [];
  const runs: unknown[] = [];
  for (const settings of shortRuns(device)) {
    const name = `${settings.modelType} ${settings.method}`;
    try {
      const onDevice = await trainBriefly({ ...settings, device, dtype: "bf16" });
      const onCpu = await trainBriefly({ ...settings, device: "cpu", dtype: "fp32" });
      const comparison = compareCurves(onDevice, onCpu);
      reasons.push(...comparison.reasons.map((reason) => `${name}: ${reason}`));
      runs.push({ name, ...comparison, onDevice, onCpu });
      onLine(`training: ${name}, losses at most ${percent(comparison.worstRelativeDifference)} off the CPU's`);
    } catch (cause) {
      const { code, message } = PolypacaError.from(cause);
      reasons.push(`${name}: ${code}: ${message}`);
    }
  }
  return judged(reasons, { runs });
}

/** Of the loss's fall: bf16 on the CPU is within 1% of fp32 here, a wrong factor in a gradient is not within this. */
const mostFallDifference = 0.1;

export interface CurveComparison {
  readonly worstRelativeDifference: number;
  /** Of the mean loss from the first round over the batches to the last. */
  readonly fallOnDevice: number;
  readonly fallOnCpu: number;
  readonly reasons: readonly string[];
}

/** Two loss curves of the same run: no step further apart than bf16 may be, and both fall by the same amount. */
export function compareCurves(onDevice: readonly number[], onCpu: readonly number[]): CurveComparison {
  const { limit } = limitsOf.bf16.curveLoss;
  const differences = onDevice.map((loss, step) => Math.abs(loss - onCpu[step]!) / onCpu[step]!);
  // A loss that is no number compares as no difference at all.
  const worst = differences.some(Number.isNaN) ? Number.POSITIVE_INFINITY : Math.max(...differences);
  const [fallOnDevice, fallOnCpu] = [fallOf(onDevice), fallOf(onCpu)];
  const reasons = [
    ...(worst <= limit ? [] : [`a loss is ${percent(worst)} off the CPU's, the limit is ${percent(limit)}`]),
    ...(fallOnCpu > 0 && Math.abs(fallOnDevice - fallOnCpu) <= mostFallDifference * fallOnCpu
      ? []
      : [`the loss falls by ${fallOnDevice.toPrecision(3)}, on the CPU by ${fallOnCpu.toPrecision(3)}`]),
  ];
  return { worstRelativeDifference: worst, fallOnDevice, fallOnCpu, reasons };
}

function fallOf(losses: readonly number[]): number {
  const mean = (part: readonly number[]): number => part.reduce((sum, loss) => sum + loss, 0) / part.length;
  return mean(losses.slice(0, shortRunBatches)) - mean(losses.slice(-shortRunBatches));
}

function percent(share: number): string {
  return `${(100 * share).toFixed(3)}%`;
}

/** What compute-sanitizer looks for; each is a run of its own. */
const sanitizerTools = ["memcheck", "racecheck", "initcheck", "synccheck"];
const sanitizerSeconds = 600;

/** compute-sanitizer over one reference case: forward, backward, training steps, generation. */
async function checkSanitizer({ device, onLine, signal }: PartContext): Promise<Finding> {
  if (!isCuda(device) || device === "cuda-emulated") return skipped(`compute-sanitizer watches GPUs, the device is ${device}`);
  const goldenCase = join(packageRoot(), "test/goldens/06-llama-gqa");
  if (!existsSync(goldenCase)) return skipped("test/goldens is not here: run it in a checkout or the offline bundle");
  const probe = await runChild("compute-sanitizer", ["--version"], { timeoutSeconds: 60, signal }).catch(() => null);
  if (probe === null) return skipped("compute-sanitizer is not in PATH");
  const reasons: string[] = [];
  const tools: Record<string, string> = {};
  for (const tool of sanitizerTools) {
    const watched = [process.execPath, programPath(), "verify", goldenCase, "--device", device];
    const args = ["--tool", tool, "--target-processes", "all", "--error-exitcode", "86", ...watched];
    const child = await runChild("compute-sanitizer", args, { timeoutSeconds: sanitizerSeconds, signal });
    const output = `${child.stdout}\n${child.stderr}`;
    if (child.exitCode === 0) tools[tool] = "nothing found";
    else if (child.timedOut) tools[tool] = `no verdict within ${sanitizerSeconds} s`;
    else if (/device not supported/i.test(output)) tools[tool] = "it does not support this device";
    else {
      tools[tool] = "FAILED";
      const first = output.split("\n").find((line) => /=========\s+\S*(Invalid|Race|Uninitialized|Barrier|Error|Program hit)/i.test(line));
      reasons.push(`${tool}: ${first?.replace(/=+\s*/, "") ?? whyItEnded(child)}`);
    }
    onLine(`sanitizer: ${tool}: ${tools[tool]}`);
  }
  const noVerdict = Object.values(tools).every((verdict) => verdict !== "nothing found" && verdict !== "FAILED");
  if (noVerdict)
    return {
      ...skipped(
        Object.entries(tools)
          .map(([tool, verdict]) => `${tool}: ${verdict}`)
          .join("; "),
      ),
      details: { tools },
    };
  return judged(reasons, { tools });
}

/** Shapes that show that a bench runs, where there is no GPU to measure. */
const tinyBench = [
  "--arch",
  "llama",
  "--hidden",
  "64",
  "--layers",
  "1",
  "--vocab",
  "200",
  "--seq",
  "16",
  "--micro-batch",
  "2",
  "--steps",
  "1",
];
const gpuPresets = ["bloom-560m", "bloom-1b7", "pythia-1.4b", "bloom-7b1", "llama-7b", "baichuan2-7b"];
const benchSeconds = 3600;

/** A model at a time, smallest first, so that one that fails costs no other; LoRA beside FFT where both fit. */
async function runBenches({ device, presets, peer, onLine, signal }: PartContext): Promise<Finding> {
  const isGpu = isCuda(device) && device !== "cuda-emulated";
  const chosen = presets ?? (isGpu ? gpuPresets : null);
  const runs = chosen === null ? [["tiny", tinyBench] as const] : chosen.map((preset) => [preset, ["--preset", preset]] as const);
  const reports: Record<string, unknown> = {};
  const reasons: string[] = [];
  for (const [name, flags] of runs) {
    const args = ["bench", ...flags, "--device", device, "--dtype", "bf16", ...(peer ? ["--peer"] : [])];
    const { result, problem } = await runCommand(args, { timeoutSeconds: benchSeconds, signal });
    if (problem === null) reports[name] = result;
    else reasons.push(`${name}: bench ${problem}`);
    onLine(`bench: ${name}, ${problem === null ? rates(result as unknown as BenchReport) : "FAILED"}`);
  }
  return judged(reasons, { reports });
}

function rates({ cases }: BenchReport): string {
  return cases
    .map(
      ({ method, tokensPerSecond, utilization }) =>
        `${method} ${tokensPerSecond.toFixed(0)} tokens/s (${(100 * utilization).toFixed(0)}% of the GEMM peak)`,
    )
    .join(", ");
}
