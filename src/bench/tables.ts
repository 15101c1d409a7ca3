/** The report as text for a terminal: tables of plain columns, numbers to the right. */
import type { ComparedCase, Comparison } from "./compare.js";
import type { KernelReport } from "./kernels.js";
import type { PeerReport } from "./peer.js";
import type { BenchReport, CaseResult } from "./report.js";
import type { SweepReport } from "./sweep.js";

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  /** Default: right. */
  readonly align?: "left";
}

/** Columns as wide as their widest cell, two spaces apart. */
export function formatTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => columns.map(({ cell }) => cell(row)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i]!.length)));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => (columns[i]!.align === "left" ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)))
      .join("  ")
      .trimEnd();
  const [titles, ...body] = cells.map(line);
  return [titles!, "-".repeat(widths.reduce((sum, width) => sum + width + 2, -2)), ...body].join("\n");
}

/** Everything that was measured, with how. */
export function describeReport(report: BenchReport, comparison: Comparison | null = null): string {
  const { cases, leftOut, peer, sweep, kernels, method } = report;
  const shapes = [...new Map(cases.map((result) => [result.shape, result])).values()];
  return [
    describeDevice(report),
    ...(cases.length === 0 ? [] : [shapes.map((result) => result.shape).join("\n"), sweep ? sweepTable(sweep) : caseTable(report)]),
    ...(leftOut.length === 0 ? [] : [leftOut.map((line) => `Left out: ${line}`).join("\n")]),
    ...(peer ? [peerTable(peer)] : []),
    ...(kernels ? [kernelTable(kernels)] : []),
    ...(comparison ? [comparisonTable(comparison)] : []),
    method.join("\n"),
  ].join("\n\n");
}

function describeDevice({ machine, device, gemmPeak: { fp32, bf16 }, microKernelPeak }: BenchReport): string {
  const name = device === "cpu" ? `${machine.threads} threads, ${machine.isa}, products: ${machine.gemm}` : `${device}: ${machine.cuda}`;
  const peaks = [...(bf16 === null ? [] : [`${number(bf16)} GFLOP/s in bf16`]), ...(fp32 === null ? [] : [`${number(fp32)} in fp32`])];
  const inCache = microKernelPeak && ` (micro-kernel in the cache: ${number(microKernelPeak.bf16)}, ${number(microKernelPeak.fp32)})`;
  return `${machine.cpu}, ${name}\nGEMM peak ${peaks.join(", ")}${inCache ?? ""}`;
}

function caseTable({ cases, ratios }: BenchReport): string {
  const ratioOf = ({ key }: CaseResult) => ratios.find((ratio) => ratio.key === key);
  const columns: Column<CaseResult>[] = [
    { title: "model", cell: ({ name }) => name, align: "left" },
    { title: "method", cell: ({ method }) => methodName(method), align: "left" },
    { title: "dtype", cell: ({ dtype }) => dtype, align: "left" },
    { title: "tokens/s", cell: ({ tokensPerSecond }) => number(tokensPerSecond) },
    { title: "step ms", cell: ({ stepSeconds }) => milliseconds(stepSeconds) },
    {
      title: "±",
      cell: ({ stepSeconds, stepSecondsLow, stepSecondsHigh }) => percent((stepSecondsHigh - stepSecondsLow) / 2 / stepSeconds, 1),
    },
    { title: "forward", cell: ({ forwardSeconds }) => milliseconds(forwardSeconds) },
    { title: "backward", cell: ({ backwardSeconds }) => milliseconds(backwardSeconds) },
    { title: "optimizer", cell: ({ optimizerSeconds }) => milliseconds(optimizerSeconds) },
    { title: "peak MiB", cell: ({ peakMemoryBytes }) => mib(peakMemoryBytes) },
    { title: "of GEMM peak", cell: ({ utilization }) => percent(utilization) },
    { title: "LoRA/FFT speed", cell: (result) => times(ratioOf(result)?.tokensPerSecond) },
    { title: "step", cell: (result) => ratioOf(result)?.stepSeconds.toFixed(2) ?? "" },
    { title: "memory", cell: (result) => ratioOf(result)?.peakMemory.toFixed(2) ?? "" },
  ];
  return formatTable(columns, cases);
}

function sweepTable({ parameter, points }: SweepReport): string {
  return formatTable(
    [
      { title: parameter, cell: ({ value }) => number(value) },
      { title: "method", cell: ({ method }) => methodName(method), align: "left" },
      { title: "dtype", cell: ({ dtype }) => dtype, align: "left" },
      { title: "µs/token", cell: ({ microsecondsPerToken }) => microsecondsPerToken.toFixed(1) },
      {
        title: "±",
        cell: ({ microsecondsPerToken: cost, microsecondsPerTokenLow: low, microsecondsPerTokenHigh: high }) =>
          percent((high - low) / 2 / cost, 1),
      },
      { title: "growth", cell: ({ growth }) => times(growth) },
      { title: "tokens/s", cell: ({ tokensPerSecond }) => number(tokensPerSecond) },
      { title: "peak MiB", cell: ({ peakMemoryBytes }) => mib(peakMemoryBytes) },
      { title: "of GEMM peak", cell: ({ utilization }) => percent(utilization) },
    ],
    points,
  );
}

function peerTable({ problem, implementation, cases, ratios, skipped }: PeerReport): string {
  if (problem !== null) return `Peer: ${problem}`;
  const measured = formatTable(
    [
      { title: "PyTorch", cell: ({ arch }) => arch, align: "left" },
      { title: "method", cell: ({ method }) => methodName(method), align: "left" },
      { title: "numerics", cell: numericsName, align: "left" },
      { title: "tokens/s", cell: ({ tokensPerSecond }) => number(tokensPerSecond) },
      { title: "step ms", cell: ({ stepSeconds }) => milliseconds(stepSeconds) },
      {
        title: "±",
        cell: ({ stepSeconds, stepSecondsLow, stepSecondsHigh }) => percent((stepSecondsHigh - stepSecondsLow) / 2 / stepSeconds, 1),
      },
      { title: "peak MiB", cell: ({ peakMemoryBytes }) => mib(peakMemoryBytes) },
    ],
    cases,
  );
  const compared = formatTable(
    [
      { title: "polypaca against PyTorch", cell: ({ key }) => key, align: "left" },
      { title: "numerics", cell: (ratio) => `${numericsName(ratio)}${ratio.isFastest ? ", its fastest" : ""}`, align: "left" },
      { title: "speed", cell: ({ tokensPerSecond }) => times(tokensPerSecond) },
      { title: "memory", cell: ({ peakMemory }) => peakMemory.toFixed(2) },
    ],
    ratios,
  );
  const notes = [...(implementation ? [`Peer: ${implementation}.`] : []), ...skipped.map((line) => `Not run: ${line}`)];
  return [...(cases.length > 0 ? [measured, compared] : []), notes.join("\n")].join("\n\n");
}

function kernelTable({ bandwidth, kernels }: KernelReport): string {
  const table = formatTable(
    [
      { title: "model", cell: ({ arch }) => arch, align: "left" },
      { title: "dtype", cell: ({ dtype }) => dtype, align: "left" },
      { title: "kernel", cell: ({ kernel }) => kernel, align: "left" },
      { title: "sizes", cell: ({ sizes }) => sizes, align: "left" },
      { title: "µs", cell: ({ seconds }) => (seconds * 1e6).toFixed(0) },
      { title: "GFLOP/s", cell: ({ flops, seconds }) => (flops === 0 ? "" : number(flops / seconds / 1e9)) },
      { title: "GB/s", cell: ({ bytes, seconds }) => (bytes / seconds / 1e9).toFixed(1) },
      { title: "of", cell: ({ limit }) => (limit === "products" ? "GEMM peak" : "bandwidth"), align: "left" },
      { title: "", cell: ({ fraction }) => percent(fraction) },
    ],
    kernels,
  );
  const note = `Memory bandwidth ${bandwidth.toFixed(1)} GB/s (triad). A kernel's share is its least time, by operations at the GEMM peak or by bytes at the bandwidth, over its time; what stays in a cache between calls can exceed 100%.`;
  return `${table}\n\n${note}`;
}

export function comparisonTable({ differences, gemmPeak, microKernel, cases, onlyBefore, onlyNow }: Comparison): string {
  const isRepeated = cases.some(({ ratioAgain }) => ratioAgain !== null);
  const table = formatTable(
    [
      { title: "against the saved run", cell: ({ key }) => key, align: "left" },
      { title: "before", cell: ({ tokensPerSecondBefore }) => number(tokensPerSecondBefore) },
      { title: "now", cell: ({ tokensPerSecondNow }) => number(tokensPerSecondNow) },
      { title: "ratio", cell: ({ ratio }) => times(ratio) },
      ...(isRepeated ? [{ title: "again", cell: ({ ratioAgain }: ComparedCase) => (ratioAgain === null ? "" : times(ratioAgain)) }] : []),
      { title: "noise", cell: ({ noise }) => `±${percent(noise, 1)}` },
      { title: "memory", cell: ({ peakMemory }) => peakMemory.toFixed(2) },
      { title: "verdict", cell: ({ verdict }) => verdict, align: "left" },
    ],
    cases,
  );
  return [
    table,
    `GEMM peak now over before: bf16 ${timesOrNone(gemmPeak.bf16)}, fp32 ${timesOrNone(gemmPeak.fp32)}; micro-kernel, which verdicts allow for as the machine's speed: bf16 ${timesOrNone(microKernel.bf16)}, fp32 ${timesOrNone(microKernel.fp32)}.`,
    ...differences.map((difference) => `Another machine or build: ${difference}`),
    ...onlyBefore.map((key) => `Only in the saved run: ${key}`),
    ...onlyNow.map((key) => `Not in the saved run: ${key}`),
  ].join("\n");
}

function numericsName({ numerics, form }: { readonly numerics: string; readonly form: string | null }): string {
  return form === null ? numerics : `${numerics} ${form}`;
}

function timesOrNone(ratio: number | null): string {
  return ratio === null ? "none" : times(ratio);
}

export function methodName(method: "lora" | "fft"): string {
  return method === "lora" ? "LoRA" : "FFT";
}

function number(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

function milliseconds(seconds: number): string {
  const value = seconds * 1000;
  return value.toFixed(value < 10 ? 1 : 0);
}

function percent(share: number, digits = 0): string {
  return `${(share * 100).toFixed(digits)}%`;
}

function times(ratio: number | undefined): string {
  return ratio === undefined ? "" : `${ratio.toFixed(2)}x`;
}

function mib(bytes: number): string {
  return number(bytes / 2 ** 20);
}
