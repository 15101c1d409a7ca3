import { describe, expect, it } from "vitest";
import type { PeerCase } from "../../src/bench/peer.js";
import { plotReport } from "../../src/bench/plot.js";
import type { BenchReport } from "../../src/bench/report.js";
import { caseResult, report } from "./shapes.js";

/** Every tag is closed in order and no stray character stands in text or attributes; returns the elements' names with their classes. */
function elementsOf(svg: string): string[] {
  const open: string[] = [];
  const found: string[] = [];
  const body = svg.replace(/^<\?xml[^>]*\?>\n/, "");
  for (const [, text, end, name, attributes, selfClosed] of body.matchAll(
    /([^<]*)<(\/?)([a-z]+)((?: [\w:-]+="[^"<&]*(?:&\w+;[^"<&]*)*")*)(\/?)>/g,
  )) {
    expect(text!.replaceAll(/&(amp|lt|gt|quot);/g, "")).not.toMatch(/[&>]/);
    if (end) expect(open.pop()).toBe(name);
    else {
      found.push(`${name}.${/ class="([^"]*)"/.exec(attributes!)?.[1] ?? ""}`);
      if (!selfClosed) open.push(name!);
    }
  }
  expect(open).toEqual([]);
  // What the expression above did not take is no XML.
  expect(body.replaceAll(/[^<]*<\/?[a-z]+(?: [\w:-]+="[^"<]*")*\/?>/g, "").trim()).toBe("");
  return found;
}

const count = (elements: readonly string[], name: string): number => elements.filter((element) => element === name).length;

const cases = [
  caseResult("1", { method: "lora", tokensPerSecond: 3000 }),
  caseResult("2", { method: "fft", tokensPerSecond: 2000 }),
  caseResult("3", { method: "lora", dtype: "fp32", name: "a & b", shape: "<another>" }),
];

const peerCase = (changes: Partial<PeerCase>): PeerCase => ({
  ...{ arch: "bloom", shape: cases[0]!.shape, method: "lora", numerics: "mixed", form: null, tokensPerSecond: 1000, stepSeconds: 1 },
  ...{ stepSecondsLow: 1, stepSecondsHigh: 1, steps: 3, peakMemoryBytes: 2 ** 30, implementation: "PyTorch" },
  ...changes,
});

describe("the plot", () => {
  it("has a bar of speed and one of memory for each case, and its value above", () => {
    const svg = plotReport(report({ cases }));
    const elements = elementsOf(svg);
    expect(count(elements, "rect.bar")).toBe(6);
    expect(count(elements, "text.value")).toBe(6);
    expect(count(elements, "rect.key")).toBe(2);
    expect(svg).toContain("3,000");
    expect(svg).toContain("a &amp; b");
  });

  it("puts the peer's variants beside the case with the same shape and numerics", () => {
    const peer: NonNullable<BenchReport["peer"]> = {
      ...{ problem: null, implementation: "PyTorch", ratios: [], skipped: [] },
      cases: [peerCase({}), peerCase({ numerics: "pure" }), peerCase({ numerics: "fp32" })],
    };
    const elements = elementsOf(plotReport(report({ cases, peer })));
    expect(count(elements, "rect.bar")).toBe(2 * (3 + 2));
    expect(count(elements, "rect.key")).toBe(4);
  });

  it("of a sweep has a line per method, a point per value", () => {
    const point = (value: number, method: "lora" | "fft") => ({
      ...{
        value,
        method,
        dtype: "bf16",
        microsecondsPerToken: value,
        microsecondsPerTokenLow: value,
        microsecondsPerTokenHigh: value * 1.1,
      },
      ...{ tokensPerSecond: 1e6 / value, peakMemoryBytes: 2 ** 20, utilization: 0.5, growth: 1 },
    });
    const points = [128, 256, 512].flatMap((value) => [point(value, "lora"), point(value, "fft")]);
    const sweep = { parameter: "seq", shape: "bloom", sequenceLength: null, points } as const;
    const svg = plotReport(report({ cases, sweep }));
    const elements = elementsOf(svg);
    expect(count(elements, "polyline.line")).toBe(2 * 2);
    expect(count(elements, "circle.point")).toBe(2 * 2 * 3);
    expect(svg).toContain("sequence length");
    const packed = plotReport(report({ cases, sweep: { ...sweep, sequenceLength: 128 } }));
    expect(packed).toContain(">How the cost of a token grows with row length<");
    expect(packed).toContain(">row length, packed with sequences of 128 tokens<");
  });

  it("refuses a run without steps", () => {
    expect(() => plotReport(report({}))).toThrow(/nothing to draw/);
  });
});
