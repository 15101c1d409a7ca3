/** `--plot`: the run as a picture. Bars of tokens/s and memory, LoRA against FFT against the peer; for a sweep, lines of the cost per token. */
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";
import { type BarGroup, barPanel, heading, type Line, legend, linePanel, type Series } from "./chart.js";
import { numericsOf, type PeerCase } from "./peer.js";
import type { BenchReport, CaseResult } from "./report.js";
import { picture } from "./svg.js";
import { methodName } from "./tables.js";

const colors: Readonly<Record<Method, string>> = { lora: "#0f766e", fft: "#b45309" };
/** The same hues, lighter: another trainer, the same method. */
const peerColors: Readonly<Record<string, string>> = {
  "lora mixed": "#5eb8ae",
  "lora pure": "#99d5cd",
  "lora fp32": "#5eb8ae",
  "fft mixed": "#dd9a4e",
  "fft pure": "#f0c48f",
  "fft fp32": "#dd9a4e",
};
const lineColors = ["#0f766e", "#b45309", "#5eb8ae", "#dd9a4e"];

const margin = { left: 76, right: 28 };

/** @throws PolypacaError `USAGE` where nothing was measured that can be drawn */
export function plotReport(report: BenchReport): string {
  if (report.sweep) return plotSweep(report, report.sweep);
  if (report.cases.length === 0)
    throw new PolypacaError("USAGE", "--plot: no steps were measured (--steps 0), so there is nothing to draw.");
  return plotBars(report);
}

function plotBars(report: BenchReport): string {
  const speed = groupsOf(report, ({ tokensPerSecond }) => tokensPerSecond);
  const memory = groupsOf(report, ({ peakMemoryBytes }) => peakMemoryBytes / 2 ** 20);
  const bars = speed.reduce((sum, group) => sum + group.bars.length, 0);
  const width = Math.max(560, margin.left + margin.right + bars * 50 + speed.length * 26);
  const area = { x: margin.left, width: width - margin.left - margin.right, height: 220 };
  const series = [...new Map(speed.flatMap((group) => group.bars.map((bar) => [bar.series.name, bar.series] as const))).values()];
  const names = legend(series, margin.left - 48, 102, width - 12);
  return picture({ width, height: 756 + names.height }, "LoRA against FFT: tokens per second and peak memory", [
    heading("LoRA against FFT, one training step", [subtitleOf(report), batchOf(report)], margin.left - 48, 36),
    names.svg,
    barPanel("Tokens per second (more is better)", speed, { ...area, y: 150 + names.height }),
    barPanel(`Peak memory of the ${report.device === "cpu" ? "process" : "GPU"}, MiB (less is better)`, memory, {
      ...area,
      y: 466 + names.height,
    }),
  ]);
}

/** A group per shape and dtype: ours, then the peer's variants of the same numerics. */
function groupsOf(
  report: BenchReport,
  amountOf: (result: { readonly tokensPerSecond: number; readonly peakMemoryBytes: number }) => number,
): BarGroup[] {
  const groups = new Map<string, CaseResult[]>();
  for (const result of report.cases) {
    const key = `${result.shape} ${result.dtype}`;
    groups.set(key, [...(groups.get(key) ?? []), result]);
  }
  const manyShapes = new Set(report.cases.map(({ name }) => name)).size < new Set(report.cases.map(({ shape }) => shape)).size;
  return [...groups.values()].map((results) => {
    const { name, shape, dtype } = results[0]!;
    const rivals = fastestForms(report.peer?.cases ?? []).filter(
      (rival) => rival.shape === shape && numericsOf(dtype).includes(rival.numerics),
    );
    return {
      labels: [name, dtype, ...(manyShapes ? [shape] : [])],
      bars: [
        ...results.map((result) => ({
          series: { name: `polypaca ${methodName(result.method)}`, color: colors[result.method] },
          value: amountOf(result),
        })),
        ...rivals.map((rival) => {
          const variant = `${rival.method} ${rival.numerics}`;
          const series = { name: `PyTorch ${methodName(rival.method)} ${rival.numerics}`, color: peerColors[variant]! };
          return { series, value: amountOf(rival) };
        }),
      ],
    };
  });
}

/** Of each of the peer's cases, the fastest form. */
function fastestForms(cases: readonly PeerCase[]): PeerCase[] {
  const fastest = new Map<string, PeerCase>();
  for (const each of cases) {
    const key = `${each.shape} ${each.method} ${each.numerics}`;
    const other = fastest.get(key);
    if (!other || other.tokensPerSecond < each.tokensPerSecond) fastest.set(key, each);
  }
  return [...fastest.values()];
}

function plotSweep(report: BenchReport, sweep: NonNullable<BenchReport["sweep"]>): string {
  const { points, shape } = sweep;
  const lineNames = [...new Set(points.map(({ method, dtype }) => `${methodName(method)} ${dtype}`))];
  const values = [...new Set(points.map(({ value }) => value))];
  const linesOf = (pick: (point: (typeof points)[number]) => Omit<Line["points"][number], "x">): Line[] =>
    lineNames.map((name, i) => {
      const series: Series = { name: `polypaca ${name}`, color: lineColors[i % lineColors.length]! };
      const own = points.filter(({ method, dtype }) => `${methodName(method)} ${dtype}` === name);
      // FFT has no rank: its one measurement holds for every rank.
      if (own.length === 1 && values.length > 1) return { series, points: values.map((x) => ({ x, ...pick(own[0]!) })) };
      return { series, points: own.map((point) => ({ x: point.value, ...pick(point) })) };
    });
  const cost = linesOf(({ microsecondsPerToken, microsecondsPerTokenLow, microsecondsPerTokenHigh }) => ({
    ...{ y: microsecondsPerToken, low: microsecondsPerTokenLow, high: microsecondsPerTokenHigh },
  }));
  const memory = linesOf(({ peakMemoryBytes }) => ({ y: peakMemoryBytes / 2 ** 20 }));
  const width = 720;
  const area = { x: margin.left, width: width - margin.left - margin.right, height: 230 };
  const axis = axisTitle(sweep);
  const names = legend(
    cost.map(({ series }) => series),
    margin.left - 48,
    102,
    width - 12,
  );
  return picture({ width, height: 796 + names.height }, `Cost per token by ${axis}`, [
    heading(
      `How the cost of a token grows with ${sweptName(sweep)}`,
      [subtitleOf(report), `at the first point: ${shape}`],
      margin.left - 48,
      36,
    ),
    names.svg,
    linePanel("Microseconds per token (whiskers: quartiles of the steps)", axis, cost, { ...area, y: 150 + names.height }),
    linePanel("Peak memory of the process, MiB", axis, memory, { ...area, y: 492 + names.height }),
  ]);
}

const sweptNames: Readonly<Record<NonNullable<BenchReport["sweep"]>["parameter"], string>> = {
  hidden: "hidden size",
  layers: "number of layers",
  seq: "sequence length",
  rank: "LoRA rank",
  "micro-batch": "sequences per micro-batch",
};

/** A row is as long as its one sequence unless it is packed. */
function sweptName({ parameter, sequenceLength }: NonNullable<BenchReport["sweep"]>): string {
  return parameter === "seq" && sequenceLength !== null ? "row length" : sweptNames[parameter];
}

function axisTitle(sweep: NonNullable<BenchReport["sweep"]>): string {
  const packing = sweep.sequenceLength === null ? "" : `, packed with sequences of ${sweep.sequenceLength} tokens`;
  return `${sweptName(sweep)}${sweep.parameter === "seq" ? packing : ""}`;
}

/** The batch, where all cases have the same. */
function batchOf({ cases }: BenchReport): string {
  const batches = new Set(cases.map(({ shape }) => shape.slice(shape.lastIndexOf(", ") + 2)));
  const rounds = Math.min(...cases.map(({ steps }) => steps));
  return `${batches.size === 1 ? `${[...batches][0]} per step, ` : ""}medians of ${rounds} steps`;
}

function subtitleOf({ machine, device }: BenchReport): string {
  if (device !== "cpu") return `${machine.cuda}, ${machine.cpu}`;
  return `${machine.cpu}, ${machine.threads} threads, ${machine.isa}`;
}
