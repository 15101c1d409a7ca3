/**
 * `polypaca gpu-check`: everything there is to check and measure on a GPU, in one go. A box with one may be there for minutes: parts
 * go from what fails first to what takes longest, a failed part does not stop the next, and the files on disk are complete after each.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type BundleOrigin, bundleOriginFile } from "../bundle/bundle.js";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { packageRoot } from "../native/load.js";
import { type Finding, type PartContext, partFunctions } from "./parts.js";
import { type GpuCheckReport, type PartName, type PartResult, partNames, type SystemFacts } from "./report.js";
import { runChild } from "./run-child.js";
import { summaryText } from "./summary.js";

export interface GpuCheckSettings {
  /** Folder of gpu-check.json and gpu-check.md; made where it is missing. */
  readonly out: string;
  readonly device: string;
  /** null: all. */
  readonly parts: readonly string[] | null;
  /** Models of the bench; null: six of the study's. */
  readonly presets: readonly string[] | null;
  /** Also PyTorch beside the bench. */
  readonly peer: boolean;
}

export interface GpuCheckHooks {
  /** What happens, a line each. */
  readonly onLine: (line: string) => void;
  /** Milliseconds, for durations. */
  readonly now: () => number;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly signal?: AbortSignal;
}

/**
 * Runs the parts and writes `gpu-check.json` and `gpu-check.md`.
 *
 * @throws PolypacaError `USAGE` for a part that is not known; `CANCELLED`; `IO` where the folder cannot be written
 */
export async function gpuCheck(settings: GpuCheckSettings, hooks: GpuCheckHooks): Promise<GpuCheckReport> {
  const wanted = settings.parts ?? partNames;
  const unknown = wanted.find((name) => !(partNames as readonly string[]).includes(name));
  if (unknown !== undefined) throw new PolypacaError("USAGE", `--parts ${unknown}: expected ${partNames.join(", ")}.`);
  const { device } = settings;
  if (!/^(cpu|cuda(:\d+)?|cuda-emulated)$/.test(device)) throw new PolypacaError("USAGE", `--device ${device}: expected cuda or cuda:<n>.`);
  const out = resolve(settings.out);
  await mkdir(out, { recursive: true });
  const context: PartContext = { ...settings, device, out, onLine: hooks.onLine, signal: hooks.signal };
  const system = await systemFacts();
  const parts: PartResult[] = [];
  const report = (): GpuCheckReport => ({
    ...originFacts(),
    ...{ startedAt: hooks.startedAt, device, system, parts, passed: parts.every(({ status }) => status !== "failed") },
  });
  let unusable: string | null = null;
  for (const name of partNames) {
    const reason = unusable ?? (wanted.includes(name) || name === "doctor" ? null : "not asked for");
    const part = await runPart(name, reason, context, hooks);
    parts.push(part);
    if (name === "doctor" && part.status === "failed") unusable = `nothing to run on: ${part.reasons.join("; ")}`;
    await writeReport(out, report());
  }
  return report();
}

async function runPart(name: PartName, reasonToSkip: string | null, context: PartContext, hooks: GpuCheckHooks): Promise<PartResult> {
  if (reasonToSkip !== null) return { name, status: "skipped", reasons: [reasonToSkip], seconds: 0, details: {} };
  const start = hooks.now();
  const finding = await partFunctions[name](context).catch((cause: unknown): Finding => {
    const { code, message } = PolypacaError.from(cause);
    if (code === "CANCELLED") throw cause;
    return { status: "failed", reasons: [`${code}: ${message}`], details: {} };
  });
  const seconds = (hooks.now() - start) / 1000;
  hooks.onLine(`${name}: ${finding.status}${finding.reasons.length === 0 ? "" : `, ${finding.reasons[0]}`} (${seconds.toFixed(0)} s)`);
  return { name, ...finding, seconds };
}

async function writeReport(out: string, report: GpuCheckReport): Promise<void> {
  await writeFileAtomic(join(out, "gpu-check.json"), `${JSON.stringify(report, null, 1)}\n`);
  await writeFileAtomic(join(out, "gpu-check.md"), summaryText(report));
}

function originFacts(): Pick<GpuCheckReport, "polypaca" | "bundle"> {
  const read = (name: string): unknown => JSON.parse(readFileSync(join(packageRoot(), name), "utf8"));
  const bundle = existsSync(join(packageRoot(), bundleOriginFile)) ? (read(bundleOriginFile) as BundleOrigin) : null;
  return { polypaca: (read("package.json") as { readonly version: string }).version, bundle };
}

async function systemFacts(): Promise<SystemFacts> {
  const lines = async (command: string, args: readonly string[]): Promise<string[]> => {
    const child = await runChild(command, args, { timeoutSeconds: 60 }).catch(() => null);
    return child?.exitCode === 0 ? child.stdout.trim().split("\n") : [];
  };
  const gpus = await lines("nvidia-smi", ["--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"]);
  const nvcc = await lines("nvcc", ["--version"]);
  return { node: process.version, gpus, nvcc: nvcc.find((line) => line.includes("release")) ?? null };
}
