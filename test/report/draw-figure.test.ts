import { describe, expect, it } from "vitest";
import { logAxis, scoreAxis } from "../../src/report/axis-ends.js";
import { conditionStyles } from "../../src/report/condition-styles.js";
import { drawFigure } from "../../src/report/draw-figure.js";
import type { Figure, Point } from "../../src/report/figure.js";
import { type Position, readPicture } from "./read-picture.js";

function point(x: number, value: number | null, more: Partial<Point> = {}): Point {
  return { x, value, low: null, high: null, isIncomplete: false, ...more };
}

const sizes = [
  { at: 1e9, label: "1B" },
  { at: 1e10, label: "10B" },
];

const lines: Figure = {
  ...{ name: "scores-lora-bloom", title: "BLOOM", form: "lines", x: { label: "model size" }, notes: ["A note."] },
  y: { label: "score", scale: "linear", low: 0, high: 60, ticks: [0, 30, 60] },
  panels: [{ title: "English", ticks: sizes, series: [{ condition: "english", points: [point(1e9, 30), point(1e10, 60)] }] }],
};

const robustness: Figure = {
  ...lines,
  ...{ name: "robustness", y: { label: "drop", scale: "log", low: 0.1, high: 10, ticks: [0.1, 1, 10] } },
  panels: [
    {
      ...{ title: "BLOOM, LoRA", ticks: sizes },
      series: [
        { condition: "monolingual", points: [point(1e9, 1, { low: 0, high: 10 }), point(1e10, 0)] },
        { condition: "english", points: [point(1e9, 10), point(1e10, 10, { isIncomplete: true })] },
      ],
    },
  ],
};

const bars: Figure = {
  ...{ name: "families-lora", title: "LoRA", form: "bars", x: { label: "family" }, y: lines.y, notes: [] },
  panels: [
    {
      title: "English",
      ticks: [
        { at: 0, label: "BLOOM\n7.1B" },
        { at: 1, label: "LLaMA\n7B" },
      ],
      series: [
        { condition: "monolingual", points: [point(0, 30), point(1, 60)] },
        { condition: "multilingual", points: [point(0, 45, { isIncomplete: true }), point(1, null)] },
      ],
    },
  ],
};

function expectPlaces(found: readonly Position[] | undefined, expected: readonly Position[]): void {
  expect(found?.length).toBe(expected.length);
  for (const [index, [x, y]] of expected.entries()) {
    expect(found![index]![0]).toBeCloseTo(x, 1);
    expect(found![index]![1]).toBeCloseTo(y, 1);
  }
}

describe("a figure of lines", () => {
  // One panel of 614 by 230 units with margins 30, 6, 20 and 26: 578 by 184 for the data.
  // Sizes a decade apart, 0.05 of a decade before and after: at 30 + 578 * 0.05 / 1.1 and 30 + 578 * 1.05 / 1.1.
  const [left, right] = [56.27, 581.73];

  it("has its points where the scales put them", () => {
    const [panel] = readPicture(drawFigure(lines)).panels;
    expectPlaces(panel!.lines.english![0], [[left, 112], [right, 20]]); // biome-ignore format: points
    expectPlaces(panel!.marks["point-english"], [[left, 112], [right, 20]]); // biome-ignore format: points
  });

  it("draws zero at the floor of a log axis, ringed, labelled 0 and explained in the legend", () => {
    const picture = readPicture(drawFigure(robustness));
    const [panel] = picture.panels;
    // Two conditions stand 2.5 units apart. 1 is the middle of 0.1 to 10; the floor is at 204.
    expectPlaces(panel!.lines.monolingual![0], [[left - 1.25, 112], [right - 1.25, 204]]); // biome-ignore format: points
    expectPlaces(panel!.marks["zero-monolingual"], [[right - 1.25, 204]]);
    expect(panel!.marks["zero-english"] ?? []).toEqual([]);
    expect(panel!.yTicks).toEqual(["0", "1", "10"]);
    expect(picture.legend).toEqual(["monolingual", "english", "hollow: incomplete, a lower bound", "zero, drawn at the axis floor"]);
  });

  it("labels the floor by its value where nothing is zero", () => {
    const [panel] = robustness.panels;
    const picture = readPicture(drawFigure({ ...robustness, panels: [{ ...panel!, series: [panel!.series[1]!] }] }));
    expect(picture.panels[0]!.yTicks).toEqual(["0.1", "1", "10"]);
    expect(picture.keys).not.toContain("key-zero");
  });

  it("marks incomplete points by hollow markers", () => {
    const [panel] = readPicture(drawFigure(robustness)).panels;
    expectPlaces(panel!.marks["point-english"], [[left + 1.25, 20]]);
    expectPlaces(panel!.marks["incomplete-english"], [[right + 1.25, 20]]);
  });

  it("draws intervals, cut off at the floor of a log axis", () => {
    const { whiskers } = readPicture(drawFigure(robustness)).panels[0]!;
    expect(whiskers).toEqual({ monolingual: [[20, 204]] }); // 10 and the floor, of an interval from 0 to 10
    expect(readPicture(drawFigure(lines)).panels[0]!.whiskers).toEqual({});
  });

  it("interrupts a line where a size has no value", () => {
    const points = [point(1e9, 30), point(2e9, null), point(4e9, 30), point(1e10, 60)];
    const ticks = points.map(({ x }) => ({ at: x, label: `${x / 1e9}B` }));
    const [panel] = readPicture(
      drawFigure({ ...lines, panels: [{ title: "", ticks, series: [{ condition: "english", points }] }] }),
    ).panels;
    expect(panel!.lines.english!.map((part) => part.length)).toEqual([1, 2]);
    expect(panel!.marks["point-english"]).toHaveLength(3);
  });

  it("leaves out labels of sizes that would overlap, never the largest", () => {
    const ticks = [1e9, 1.01e9, 9.9e9, 1e10].map((at) => ({ at, label: `${at / 1e9}B` }));
    const series = [{ condition: "english", points: ticks.map(({ at }) => point(at, 30)) }];
    expect(readPicture(drawFigure({ ...lines, panels: [{ title: "", ticks, series }] })).panels[0]!.xTicks).toEqual(["1B", "10B"]);
  });

  it("lays panels out in rows, each with its axes", () => {
    const names = ["Bulgarian", "English", "French", "Russian", "Spanish"];
    const picture = readPicture(drawFigure({ ...lines, panels: names.map((title) => ({ ...lines.panels[0]!, title })) }));
    expect(picture.panels.map(({ title, xTicks, yTicks }) => [title, xTicks, yTicks])).toEqual(
      names.map((name) => [name, ["1B", "10B"], ["0", "30", "60"]]),
    );
  });
});

describe("a figure of bars", () => {
  it("has its bars where the scales put them", () => {
    const [panel] = readPicture(drawFigure(bars)).panels;
    // 578 by 174 for the data (bottom margin 36), two groups of 289; a bar takes 0.88 of 0.42 of a group.
    const width = 289 * 0.42 * 0.88;
    const left = (group: number, side: number): number => 30 + 289 * (group + 0.5 + side * 0.21) - width / 2;
    const [first, second] = panel!.bars.monolingual!;
    expect(first!.x).toBeCloseTo(left(0, -1), 1);
    expect(first!.width).toBeCloseTo(width, 1);
    expect([first!.y, first!.height]).toEqual([107, 87]);
    expect([second!.y, second!.height]).toEqual([20, 174]);
    expect(panel!.bars.multilingual![0]!.x).toBeCloseTo(left(0, 1), 1);
  });

  it("labels a score of zero, whose bar has no height", () => {
    const ticks = [{ at: 0, label: "Tiny" }];
    const series = [
      { condition: "english", points: [point(0, 0)] },
      { condition: "multilingual", points: [point(0, 30)] },
    ];
    const [panel] = readPicture(drawFigure({ ...bars, panels: [{ title: "", ticks, series }] })).panels;
    expect(panel!.marks["zero-english"]).toHaveLength(1);
    expect(panel!.marks["zero-multilingual"] ?? []).toEqual([]);
    expect(panel!.marks["missing-english"] ?? []).toEqual([]);
  });

  it("tells a missing score from zero and marks an incomplete one", () => {
    const picture = readPicture(drawFigure(bars));
    const [panel] = picture.panels;
    expect(panel!.bars.multilingual).toHaveLength(1);
    expect(panel!.marks["missing-multilingual"]).toHaveLength(1);
    expect(panel!.marks["incomplete-multilingual"]).toHaveLength(1);
    expect(picture.legend).toEqual(["monolingual", "multilingual", "incomplete, a lower bound", "no score"]);
  });

  it("fills bars by patterns that it defines, under names of its own", () => {
    const svg = drawFigure(bars);
    const used = [...svg.matchAll(/url\(#([^)]*)\)/g)].map(([, id]) => id);
    expect(new Set(used)).toEqual(new Set(["families-lora-rising"]));
    expect(svg).toMatch(/<pattern [^>]*id="families-lora-rising"/);
  });
});

describe("every figure", () => {
  const all = [lines, robustness, bars];

  it("is SVG of its own: namespace, width in print, text of 7 points or more, names of axes", () => {
    for (const figure of all) {
      const { attributes, fontSizes, xLabel, yLabel, title, notes } = readPicture(drawFigure(figure));
      expect(attributes("xmlns")).toBe("http://www.w3.org/2000/svg");
      expect(attributes("width")).toBe("160mm");
      expect(attributes("viewBox")).toMatch(/^0 0 640 \d+$/);
      const pointsPerUnit = (160 / 640 / 25.4) * 72;
      expect(Math.min(...fontSizes) * pointsPerUnit).toBeGreaterThan(7);
      expect({ xLabel, yLabel, title, notes }).toEqual({
        xLabel: figure.x.label,
        yLabel: figure.y.label,
        title: figure.title,
        notes: figure.notes,
      });
    }
  });

  it("is drawn to the same bytes as ever", async () => {
    for (const figure of all) {
      const svg = drawFigure(figure);
      expect(drawFigure(figure)).toBe(svg);
      await expect(svg).toMatchFileSnapshot(`golden/${figure.name}.svg`);
    }
  });

  it("keeps no more than two decimals", () => {
    for (const figure of all) expect(drawFigure(figure)).not.toMatch(/\d\.\d{3}/);
  });

  it("escapes names that come from files", () => {
    const series = [{ condition: `a<b & "c"`, points: [point(1e9, 30), point(1e10, 60)] }];
    const svg = drawFigure({
      ...lines,
      title: "R&D <1>",
      notes: ['judge: <gpt>="1.23456"\u0007'],
      panels: [{ title: "x & y", ticks: sizes, series }],
    });
    expect(svg).not.toMatch(/&(?!amp;|lt;|gt;|quot;|#)/);
    expect(svg).not.toMatch(/<gpt>|<1>/);
    const { title, panels, legend, notes } = readPicture(svg);
    expect({ title, legend, notes, panel: panels[0]!.title }).toEqual({
      ...{ title: "R&D <1>", legend: [`a<b & "c"`], notes: ['judge: <gpt>="1.23456" '], panel: "x & y" },
    });
  });

  it("shows each condition in one look, whichever others it has", () => {
    const alone = drawFigure(lines, ["english"]);
    expect(drawFigure(lines, ["monolingual", "english"])).toBe(alone);
  });
});

describe("the looks of conditions", () => {
  const seven = ["monolingual", "multilingual", "english", "downsampled", "untuned", "other a", "other b"];
  const styles = [...conditionStyles(seven).values()];

  it("differ in colour, marker, dash and filling alike", () => {
    for (const field of ["color", "marker", "dash", "filling"] as const) expect(new Set(styles.map((style) => style[field])).size).toBe(7);
  });

  it("refuses more than can be told apart", () => {
    expect(() => conditionStyles([...seven, "other c"])).toThrow(/3 conditions besides the study's \(other a, other b, other c\)/);
  });
});

describe("axes", () => {
  it("of scores end at a round number, at most at the best possible score", () => {
    expect(scoreAxis(143, 150)).toEqual({ low: 0, high: 150, ticks: [0, 30, 60, 90, 120, 150] });
    expect(scoreAxis(31, 150)).toEqual({ low: 0, high: 50, ticks: [0, 10, 20, 30, 40, 50] });
    expect(scoreAxis(31, 36)).toEqual({ low: 0, high: 36, ticks: [0, 10, 20, 30] });
    expect(scoreAxis(100, 150).high).toBe(100);
    expect(scoreAxis(0, 150)).toEqual({ low: 0, high: 1, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] });
  });

  it("of drops are decades that leave the floor to zeros", () => {
    const ends = (...values: number[]) => logAxis(values.map((value) => point(1, value))).ticks;
    expect(ends(0.5, 20)).toEqual([0.1, 1, 10, 100]);
    expect(ends(0.11)).toEqual([0.01, 0.1, 1]);
    expect(ends(1, 10)).toEqual([0.1, 1, 10]);
    expect(ends(0, 0)).toEqual([0.1, 1, 10]);
  });
});
