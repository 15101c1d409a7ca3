/** The report of `gpu-check` as Markdown, for people. */
import type { BenchReport } from "../bench/report.js";
import type { CaseReport } from "../verify/verify-case.js";
import type { GpuCheckReport, PartName, PartResult } from "./report.js";

export function summaryText(report: GpuCheckReport): string {
  const { polypaca, bundle, startedAt, device, system, passed, parts } = report;
  const commit = bundle === null ? "a checkout" : `bundle of commit ${bundle.commit ?? "unknown"}`;
  const failed = parts.filter(({ status }) => status === "failed");
  const skipped = parts.filter(({ status }) => status === "skipped");
  const verdict = passed ? "No part failed" : `FAILED: ${failed.map(({ name }) => name).join(", ")}`;
  return `${[
    "# gpu-check",
    `${verdict}${skipped.length === 0 ? "" : `; skipped: ${skipped.map(({ name }) => name).join(", ")}`}.`,
    [
      `- polypaca ${polypaca}, ${commit}, Node ${system.node}, ${startedAt}`,
      `- device ${device}; GPU: ${system.gpus.join("; ") || "nvidia-smi shows none"}; nvcc: ${system.nvcc ?? "none"}`,
    ].join("\n"),
    table(
      ["part", "result", "seconds", "why"],
      parts.map(({ name, status, seconds, reasons }) => [
        name,
        status === "failed" ? "FAILED" : status,
        seconds.toFixed(0),
        firstOf(reasons),
      ]),
    ),
    ...sections(parts),
  ].join("\n\n")}\n`;
}

function firstOf(reasons: readonly string[]): string {
  const [first = ""] = reasons;
  return reasons.length > 1 ? `${first} (and ${reasons.length - 1} more)` : first;
}

function sections(parts: readonly PartResult[]): string[] {
  const texts: Readonly<Record<PartName, (part: PartResult) => string>> = {
    doctor: () => "",
    kernels: ({ details }) => ("tests" in details ? `${details.passed} of ${details.tests} tests of single ops passed.` : ""),
    goldens: ({ details }) => goldenTable((details.cases ?? []) as readonly CaseReport[]),
    training: ({ details }) => trainingTable((details.runs ?? []) as readonly TrainingRow[]),
    sanitizer: ({ details }) =>
      Object.entries(details.tools ?? {})
        .map(([tool, verdict]) => `- ${tool}: ${verdict}`)
        .join("\n"),
    bench: ({ details }) => benchTables(Object.values((details.reports ?? {}) as Readonly<Record<string, BenchReport>>)),
  };
  return parts.flatMap((part) => {
    const failures = part.status === "failed" ? part.reasons.map((reason) => `- ${reason}`).join("\n") : "";
    const body = [failures, texts[part.name](part)].filter(Boolean).join("\n\n");
    return body === "" ? [] : [`## ${part.name}\n\n${body}`];
  });
}

function goldenTable(cases: readonly CaseReport[]): string {
  if (cases.length === 0) return "";
  const error = (value: number | null): string => (value === null ? "" : value.toExponential(1));
  return table(
    ["case", "result", "logits", "gradients", "adapter gradients", "curve"],
    cases.map(({ case: name, passed, maxRelativeError: { logits, gradients, loraGradients, curve } }) => [
      ...[name, passed ? "passed" : "FAILED", error(logits), error(gradients), error(loraGradients), error(curve)],
    ]),
  );
}

interface TrainingRow {
  readonly name: string;
  readonly worstRelativeDifference: number;
  readonly onDevice: readonly number[];
  readonly onCpu: readonly number[];
}

function trainingTable(runs: readonly TrainingRow[]): string {
  if (runs.length === 0) return "";
  return table(
    ["run", "steps", "first loss", "last loss", "CPU's last", "largest difference"],
    runs.map(({ name, worstRelativeDifference, onDevice, onCpu }) => [
      ...[name, String(onDevice.length), onDevice[0]!.toFixed(4), onDevice.at(-1)!.toFixed(4), onCpu.at(-1)!.toFixed(4)],
      `${(100 * worstRelativeDifference).toFixed(3)}%`,
    ]),
  );
}

function benchTables(reports: readonly BenchReport[]): string {
  const cases = reports.flatMap((report) => report.cases.map((result) => ({ result, report })));
  if (cases.length === 0) return "";
  const own = table(
    [
      "model",
      "method",
      "tokens/s",
      "step ms",
      "forward",
      "backward",
      "optimizer",
      "memory GiB",
      "GEMM peak TFLOP/s",
      "utilisation",
      "step LoRA/FFT",
    ],
    cases.map(({ result, report }) => [
      ...[result.name, result.method, result.tokensPerSecond.toFixed(0), ms(result.stepSeconds), ms(result.forwardSeconds)],
      ...[ms(result.backwardSeconds), ms(result.optimizerSeconds), (result.peakMemoryBytes / 2 ** 30).toFixed(2)],
      ...[((report.gemmPeak[result.dtype] ?? Number.NaN) / 1000).toFixed(2), `${(100 * result.utilization).toFixed(1)}%`],
      report.ratios.find(({ key }) => key === result.key)?.stepSeconds.toFixed(3) ?? "",
    ]),
  );
  const peers = reports.flatMap(({ peer, cases: measured }) =>
    (peer?.ratios ?? []).map((ratio) => ({ ratio, result: measured.find(({ key }) => key === ratio.key) })),
  );
  const notes = reports.flatMap(({ peer }) => [...(peer?.problem ? [peer.problem] : []), ...(peer?.skipped ?? [])]);
  return [
    own,
    ...(peers.length === 0
      ? []
      : [
          table(
            ["against PyTorch", "method", "its variant", "our speed", "our memory"],
            peers.map(({ ratio: { numerics, form, tokensPerSecond, peakMemory }, result }) => [
              ...[result?.name ?? "", result?.method ?? "", form === null ? numerics : `${numerics} ${form}`],
              ...[`${tokensPerSecond.toFixed(2)}x`, `${peakMemory.toFixed(2)}x`],
            ]),
          ),
        ]),
    ...(notes.length === 0 ? [] : [[...new Set(notes)].map((line) => `- PyTorch: ${line}`).join("\n")]),
  ].join("\n\n");
}

function ms(seconds: number): string {
  return (seconds * 1000).toFixed(1);
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |`;
  return [line(titles), line(titles.map(() => "---")), ...rows.map(line)].join("\n");
}
