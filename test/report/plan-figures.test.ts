import { describe, expect, it } from "vitest";
import { drawFigure } from "../../src/report/draw-figure.js";
import type { Figure } from "../../src/report/figure.js";
import { planFigures } from "../../src/report/plan-figures.js";
import { readPicture } from "./read-picture.js";
import { plausibleCells, reportOf, type SyntheticSystem, seenLanguages } from "./synthetic-scores.js";

const cells = { en: ["3", "2", "1", "3", "2", "3"], fr: ["3", "1x", "2", "2", "3", "2"], bn: ["1", "1", "2", "1", "1", "3"] };

function system(model: string, condition: string | null = "multilingual", more: Partial<SyntheticSystem> = {}): SyntheticSystem {
  return { model, method: "lora", condition, cells, ...more };
}

function named(figures: readonly Figure[], name: string): Figure {
  return figures.find((figure) => figure.name === name)!;
}

describe("the figures of an evaluation", () => {
  it("are the study's: per method and family scores of seen and unseen languages, robustness, and families per method", () => {
    const models = ["bloom-560m", "bloom-1b1", "pythia-70m", "pythia-1b-deduped", "open_llama_3b"];
    const report = reportOf(["lora", "fft"].flatMap((method) => models.map((model) => system(model, "english", { method }))));
    const { figures, skipped } = planFigures(report);
    expect(figures.map(({ name }) => name)).toEqual([
      ...["scores-lora-bloom", "unseen-lora-bloom", "scores-lora-pythia", "unseen-lora-pythia"],
      ...["scores-fft-bloom", "unseen-fft-bloom", "scores-fft-pythia", "unseen-fft-pythia"],
      ...["robustness", "families-lora", "families-fft"],
    ]);
    expect(skipped).toEqual([
      { figure: "scores-lora-openllama", reason: "OpenLLaMA with LoRA has one size only (3B)" },
      { figure: "scores-fft-openllama", reason: "OpenLLaMA with FFT has one size only (3B)" },
    ]);
    expect(named(figures, "robustness").panels.map(({ title }) => title)).toEqual([
      "BLOOM, LoRA",
      "Pythia, LoRA",
      "BLOOM, FFT",
      "Pythia, FFT",
    ]);
  });

  it("have a panel per language, a line per condition in the study's order, a point per size", () => {
    const conditions = ["zebra", "downsampled", "english", "multilingual", "monolingual"];
    const of = (condition: string) =>
      plausibleCells(1e9, condition, condition === "monolingual" ? seenLanguages : [...seenLanguages, "no"], 6);
    const report = reportOf(
      conditions.flatMap((condition) =>
        ["bloom-7b1", "bloom-560m", "bloom-3b"].map((model) => system(model, condition, { cells: of(condition) })),
      ),
    );
    const { figures } = planFigures(report);
    const { panels, legend } = readPicture(drawFigure(named(figures, "scores-lora-bloom")));
    expect(panels.map(({ title }) => title)).toEqual(["Bulgarian", "English", "Spanish", "French", "Russian", "Chinese"]);
    expect(legend).toEqual(["monolingual", "multilingual", "english", "downsampled", "zebra"]);
    for (const { lines, xTicks } of panels) {
      expect(xTicks).toEqual(["560M", "3B", "7.1B"]);
      expect(Object.values(lines).map((parts) => parts.map((part) => part.length))).toEqual([[3], [3], [3], [3], [3]]);
    }
    const unseen = readPicture(drawFigure(named(figures, "unseen-lora-bloom")));
    expect(unseen.panels.map(({ title }) => title)).toEqual(["Norwegian"]);
    expect(unseen.legend).toEqual(["multilingual", "english", "downsampled", "zebra"]);
  });

  it("show the report's scores, intervals and drops", () => {
    // en 14, fr 12 of 13, so that the drop is 0.5 on the mean over two languages.
    const report = reportOf([system("bloom-560m"), system("bloom-1b1")]);
    const { figures } = planFigures(report);
    const [english, french] = named(figures, "scores-lora-bloom").panels;
    const [low, high] = report.systems[0]!.languages.en!.interval!;
    expect(english!.series[0]!.points[0]).toEqual({ x: 560e6, value: 14, low, high, isIncomplete: false });
    expect(french!.series[0]!.points.map(({ x, value }) => [x, value])).toEqual([[560e6, 12], [1.1e9, 12]]); // biome-ignore format: pairs
    expect(named(figures, "robustness").panels[0]!.series[0]!.points[0]!.value).toBe(0.5);
    expect(named(figures, "robustness").y.ticks[0]).toBe(0.1);
  });

  it("mark incomplete cells, which have no interval", () => {
    const report = reportOf([
      system("bloom-560m", "english", { cells: { ...cells, en: ["3", "-", "1", "3", "2", "3"] } }),
      system("bloom-1b1", "english"),
    ]);
    const { figures } = planFigures(report);
    expect(named(figures, "scores-lora-bloom").panels[0]!.series[0]!.points[0]).toMatchObject({ value: 12, low: null, isIncomplete: true });
    expect(named(figures, "robustness").panels[0]!.series[0]!.points[0]).toMatchObject({ value: 0.5, low: null, isIncomplete: true });
    const families = readPicture(drawFigure(planFigures(report, { familySize: 560e6 }).figures.at(-1)!));
    expect(families.panels.map(({ marks }) => marks["incomplete-english"]?.length ?? 0)).toEqual([1, 0, 0]);
  });

  it("name in every figure the rule of language identification, the judge and the intervals", () => {
    for (const { notes } of planFigures(reportOf([system("bloom-560m"), system("bloom-1b1")])).figures) {
      expect(notes.at(-1)).toBe("Language identification: first-word, candidates all (any language it knows). Judge: judge.");
      expect(notes.at(-2)).toBe("Whiskers: 95% BCa bootstrap intervals over prompts (100 resamples).");
    }
  });

  it("show untuned models beside each method that tuned their family", () => {
    const report = reportOf(
      ["bloom-560m", "bloom-1b1", "pythia-70m"].flatMap((model) => [
        system(model, null, { method: "base" }),
        ...(model.startsWith("bloom") ? [system(model)] : []),
      ]),
    );
    const { figures } = planFigures(report);
    expect(named(figures, "scores-lora-bloom").panels[0]!.series.map(({ condition }) => condition)).toEqual(["multilingual", "untuned"]);
    expect(figures.map(({ name }) => name)).not.toContain("families-base");
  });

  it("show the mean of training seeds with their range, and say so", () => {
    const seeds = [
      { seed: 1, cells: { en: ["3", "3"] } },
      { seed: 2, cells: { en: ["1", "1"] } },
      { seed: 3, cells: { en: ["2", "3"] } },
    ];
    const { figures } = planFigures(
      reportOf(["bloom-560m", "bloom-1b1"].flatMap((model) => seeds.map((seed) => system(model, "english", seed)))),
    );
    expect(named(figures, "scores-lora-bloom").panels[0]!.series[0]!.points[0]).toMatchObject({ value: 13 / 3, low: 2, high: 6 });
    expect(named(figures, "scores-lora-bloom").notes[0]).toContain("the range of the seeds about their mean");
  });

  it("have no panel for a language that only others were tested in", () => {
    const report = reportOf([
      ...["bloom-560m", "bloom-1b1"].map((model) => system(model, "english", { cells: { en: ["1"], bn: ["1"] } })),
      ...["pythia-70m", "pythia-1b"].map((model) => system(model, "english", { cells: { fr: ["3"] } })),
    ]);
    const { figures } = planFigures(report);
    expect(figures.map(({ name, panels }) => [name, panels.map(({ title }) => title)])).toEqual([
      ["scores-lora-bloom", ["English"]],
      ["unseen-lora-bloom", ["Bengali"]],
      ["scores-lora-pythia", ["French"]],
      ["robustness", ["BLOOM, LoRA", "Pythia, LoRA"]],
      ["families-lora", ["English", "French", "Bengali, unseen"]],
    ]);
  });

  it("share a score axis across methods and families", () => {
    const report = reportOf([
      system("bloom-560m"),
      system("bloom-1b1"),
      ...["pythia-70m", "pythia-1b"].map((model) => system(model, "english", { method: "fft", cells: { en: ["1", "1"] } })),
    ]);
    const { figures } = planFigures(report);
    expect(named(figures, "scores-fft-pythia").y).toEqual(named(figures, "scores-lora-bloom").y);
  });
});

describe("bars by family", () => {
  const models = ["bloom-7b1", "bloom-3b", "pythia-6.9b", "pythia-2.8b", "llama-7b", "llama-13b", "Baichuan2-7B-Base", "open_llama_3b"];
  const report = reportOf(models.map((model) => system(model)));

  it("compare at the size that most families have, and name the families without it", () => {
    const figure = named(planFigures(report).figures, "families-lora");
    expect(figure.panels[0]!.ticks.map(({ label }) => label)).toEqual(["Baichuan-2\n7B", "BLOOM\n7.1B", "LLaMA\n7B", "Pythia\n6.9B"]);
    expect(figure.notes[0]).toBe("Left out, having no model of about that size: OpenLLaMA.");
    expect(figure.panels.map(({ title }) => title)).toEqual(["English", "French", "Bengali, unseen"]);
  });

  it("compare at the size asked for", () => {
    const figure = named(planFigures(report, { familySize: 3e9 }).figures, "families-lora");
    expect(figure.panels[0]!.ticks.map(({ label }) => label)).toEqual(["BLOOM\n3B", "OpenLLaMA\n3B", "Pythia\n2.8B"]);
  });

  it("are left out for a method without a model of that size", () => {
    const both = reportOf([system("llama-7b"), system("bloom-560m", "english", { method: "fft" })]);
    const { figures, skipped } = planFigures(both, { familySize: 7e9 });
    expect(figures.map(({ name }) => name)).toEqual(["families-lora"]);
    expect(skipped).toContainEqual({ figure: "families-fft", reason: "no model of about 7B" });
  });

  it("refuse a size that no family has, naming the sizes", () => {
    expect(() => planFigures(report, { familySize: 70e6 })).toThrow(/no model of about 70M.*2\.8B, 3B, 6\.9B, 7B, 7\.1B, 13B/);
  });
});

describe("systems whose place is not known", () => {
  const message = (systems: readonly SyntheticSystem[]): string => {
    try {
      planFigures(reportOf(systems));
    } catch (error) {
      return (error as Error).message;
    }
    return "";
  };

  it("are refused with the lines that would tell it", () => {
    const unnamed = { system: "run 7", model: null, method: null, condition: "english", cells };
    expect(message([system("tiny-base"), unnamed])).toBe(
      [
        'the size of "tiny-base" is not known; nothing says the model and method of system "run 7". Say it in a YAML file, passed with --models:',
        ...["models:", '  "tiny-base": { family: ..., parameters: 560M }', "systems:", '  "run 7": { model: ..., method: ... }'],
      ].join("\n"),
    );
  });

  it("are described by a catalog, which goes before the scores", () => {
    const report = reportOf([{ system: "run", model: null, method: null, condition: "english", cells }, system("tiny")]);
    const catalog = {
      models: { tiny: { family: "Toy", parameters: 1e6 }, small: { family: "Toy", parameters: 2e6 } },
      systems: { run: { model: "small", method: "lora", condition: "multilingual" } },
    };
    const [figure] = planFigures(report, { catalog }).figures;
    expect(figure!.panels[0]!.ticks.map(({ label }) => label)).toEqual(["1M", "2M"]);
    expect(figure!.panels[0]!.series.map(({ condition }) => condition)).toEqual(["multilingual"]);
  });

  it("are refused where two stand at one place and are no seeds of one model", () => {
    const twice = [system("bloom-560m", "english", { system: "a" }), system("bloom-560m", "english", { system: "b" })];
    expect(message(twice)).toMatch(/^"a" \(model bloom-560m, seed unknown\), "b" .*: all are BLOOM of one size, lora, english/);
    const same = twice.map((one) => ({ ...one, seed: 1 }));
    expect(message(same)).toMatch(/seed 1\).*not one model with different seeds/);
  });

  it("may be called as properties of every object are", () => {
    expect(message([system("constructor")])).toContain('the size of "constructor" is not known');
  });
});
