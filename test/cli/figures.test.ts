import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { FiguresResult } from "../../src/report/figure-files.js";
import { openPngConverter } from "../../src/report/png.js";
import { readPicture } from "../report/read-picture.js";
import { compile, runCli } from "./run-cli.js";

const folder = mkdtempSync(join(tmpdir(), "polypaca-figures-"));
const scores = join(folder, "scores", "scores.json");

function write(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const answers = {
  en: "Alpacas are animals that live in the mountains of South America.",
  fr: "Les alpagas sont des animaux qui vivent dans les montagnes d'Amérique du Sud.",
  ru: "Альпака — это животное, которое живёт в горах Южной Америки.",
} as const;

type Language = keyof typeof answers;

const languages: readonly Language[] = ["en", "fr", "ru"];

/** Two tuned sizes, two conditions, four prompts in three languages; the English condition answers one French prompt in English. */
const systems = ["tiny-a", "tiny-b"].flatMap((model) =>
  ["english", "multilingual"].map((condition) => ({ system: `${model}-${condition}`, model, method: "lora", condition, seed: 1 })),
);
const rows = systems.flatMap((system) =>
  languages.flatMap((language) =>
    [1, 2, 3, 4].map((id) => ({ ...system, id, language, inLanguage: answerLanguage(system.condition, language, id) })),
  ),
);

function answerLanguage(condition: string, language: Language, id: number): Language {
  return condition === "english" && language === "fr" && id === 2 ? "en" : language;
}

const models = ["models:", "  tiny-a: { family: Toy, parameters: 1M }", "  tiny-b: { family: Toy, parameters: 4M }", ""].join("\n");

const names = ["scores-lora-toy", "unseen-lora-toy", "robustness", "families-lora"];

let modelsFile: string;

const noPng = await openPngConverter().then(
  () => null,
  (error: Error) => error.message,
);

beforeAll(() => {
  compile();
  const lines = (of: readonly object[]): string => of.map((row) => `${JSON.stringify(row)}\n`).join("");
  const responses = rows.map(({ inLanguage, ...row }) => ({
    ...row,
    prompt: "?",
    response: answers[inLanguage],
    tokens: 9,
    finishReason: "stop",
  }));
  const judgements = rows.map(({ id, language, system, model }) => {
    return { ...{ id, language, system, judge: "j", rating: model === "tiny-b" && id > 1 ? 3 : 1 + (id % 2), explanation: "", raw: "" } };
  });
  const files = ["--responses", write("responses.jsonl", lines(responses)), "--judgements", write("judgements.jsonl", lines(judgements))];
  expect(runCli(["score", ...files, "--seen-langs", "en,fr", "--resamples", "200", "--out", join(folder, "scores")])).toMatchObject({
    exitCode: 0,
  });
  modelsFile = write("models.yaml", models);
});

function figures(...flags: readonly string[]) {
  return runCli(["figures", "--scores", scores, ...flags]);
}

describe("polypaca figures", () => {
  it("draws what score wrote and prints the files", () => {
    const out = join(folder, "pictures");
    expect(figures("--models", modelsFile, "--out", out)).toEqual({
      ...{ exitCode: 0, stderr: "", stdout: names.map((name) => `${join(out, `${name}.svg`)}\n`).join("") },
    });
    expect(readdirSync(out).sort()).toEqual(names.map((name) => `${name}.svg`).sort());
    const picture = readPicture(readFileSync(join(out, "scores-lora-toy.svg"), "utf8"));
    expect(picture.panels.map(({ title, xTicks }) => [title, xTicks])).toEqual(["English", "French"].map((name) => [name, ["1M", "4M"]]));
    expect(picture.legend).toEqual(["multilingual", "english"]);
    expect(picture.yLabel).toBe("score (4 prompts: 0 to 12)");
    // English condition, French: ratings 2 1 2 1 less the second, and 2 3 3 3 less the second: 5 and 8, on an axis from 0 to 12.
    const [[first, second]] = picture.panels[1]!.lines.english as readonly [
      readonly [readonly [number, number], readonly [number, number]],
    ];
    const axis = 175 - 20 - 26;
    expect(first[1]).toBeCloseTo(20 + axis * (1 - 5 / 12), 1);
    expect(second[1]).toBeCloseTo(20 + axis * (1 - 8 / 12), 1);
    const robustness = readPicture(readFileSync(join(out, "robustness.svg"), "utf8"));
    expect(robustness.panels[0]!.marks["zero-multilingual"]).toHaveLength(2);
  });

  it("prints JSON with --json and writes the same bytes again", () => {
    const [first, second] = ["first", "second"].map((name) => {
      const { exitCode, stdout } = figures("--models", modelsFile, "--out", join(folder, name), "--json");
      expect(exitCode).toBe(0);
      return JSON.parse(stdout) as FiguresResult;
    });
    expect(first!.skipped).toEqual([]);
    expect(first!.figures.map(({ name, png }) => [name, png])).toEqual(names.map((name) => [name, null]));
    for (const [index, { svg }] of first!.figures.entries()) {
      expect(readFileSync(second!.figures[index]!.svg, "utf8")).toBe(readFileSync(svg, "utf8"));
    }
  });

  it.skipIf(noPng !== null)(`writes PNG with --png${noPng === null ? "" : ` (skipped: ${noPng})`}`, () => {
    const { stdout } = figures("--models", modelsFile, "--out", join(folder, "png"), "--json", "--png");
    for (const { png } of (JSON.parse(stdout) as FiguresResult).figures) {
      const bytes = readFileSync(png!);
      expect(bytes.subarray(1, 4).toString()).toBe("PNG");
      expect(bytes.readUInt32BE(16)).toBe(1890); // 160 mm at 300 dots per inch
    }
  });

  it("says which figures these scores do not give", () => {
    const one = write("one-size.yaml", models.replace("4M", "1M").replace(/tiny-b: \{ family: Toy/, "tiny-b: { family: Other"));
    const { exitCode, stderr } = figures("--models", one, "--out", join(folder, "one-size"));
    expect(exitCode).toBe(0);
    expect(stderr).toBe(
      [
        ...["scores-lora-other: Other with LoRA has one size only (1M)", "scores-lora-toy: Toy with LoRA has one size only (1M)"],
        ...["robustness: no family has two sizes", ""],
      ]
        .map((line) => line && `not drawn: ${line}`)
        .join("\n"),
    );
  });
});

describe("polypaca figures refuses, before it writes anything,", () => {
  const refused = (args: readonly string[], stderr: RegExp): void => {
    const out = join(folder, "refused");
    expect(runCli(["figures", "--out", out, ...args])).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringMatching(stderr) });
    expect(existsSync(out)).toBe(false);
  };

  it("models of unknown size, with the lines that would tell it", () => {
    refused(
      ["--scores", scores],
      /^BAD_DATA: the size of "tiny-a", "tiny-b" is not known\. Say it in a YAML file.*--models:\nmodels:\n {2}"tiny-a": \{ family/,
    );
  });

  it("files that are no score reports", () => {
    refused(["--scores", join(folder, "nowhere.json")], /^NOT_FOUND: --scores .*nowhere\.json/);
    refused(["--scores", modelsFile], /^BAD_DATA: .*models\.yaml: not valid JSON.*score --out/);
    refused(["--scores", write("empty.json", "{}")], /^BAD_DATA: .*empty\.json: not a score report: "languageId"/);
    refused(["--scores", scores, scores, "--models", modelsFile], /^BAD_DATA: .*was there already/);
  });

  it("wrong flags and a wrong catalog", () => {
    refused([], /^USAGE: .*--scores <FILE\.\.\.>/);
    refused(["--scores", scores, "--models", modelsFile, "--family-size", "large"], /^USAGE: --family-size large: expected a size such as/);
    refused(["--scores", scores, "--models", modelsFile, "--family-size", "7B"], /^USAGE: --family-size: there is no model of about 7B/);
    refused(["--scores", scores, "--models", write("bad.yaml", "models: 3\n")], /^BAD_CONFIG: .*bad\.yaml: "models"/);
  });
});
