import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PolypacaError } from "../../src/errors.js";
import { figuresOfFiles } from "../../src/report/figure-files.js";
import { readModelCatalog } from "../../src/report/model-catalog.js";
import { factsByName, formatParameters, parseParameters } from "../../src/report/model-sizes.js";
import { readScores } from "../../src/report/read-scores.js";
import { reportOf, type SyntheticSystem } from "./synthetic-scores.js";

const folder = mkdtempSync(join(tmpdir(), "polypaca-report-"));

function write(name: string, content: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

const one: SyntheticSystem = { system: "one", model: "bloom-560m", method: "lora", condition: "english", cells: { en: ["3", "2"] } };
const report = reportOf([one]);
const first = write("first.json", report);

describe("score reports", () => {
  it("of several files are one evaluation", async () => {
    const second = write("second.json", reportOf([{ ...one, system: "two" }]));
    const { systems, judges } = await readScores([first, second]);
    expect(systems.map(({ system }) => system)).toEqual(["one", "two"]);
    expect(systems[0]!.languages.en).toEqual({ score: 5, prompts: 2, incomplete: 0, interval: report.systems[0]!.languages.en!.interval });
    expect(judges).toEqual(["judge"]);
  });

  it("are refused where they cannot be compared", async () => {
    const other = reportOf([{ ...one, system: "two" }]);
    const rule = write("rule.json", { ...other, languageId: { ...other.languageId, candidates: "expected" } });
    await expect(readScores([first, rule])).rejects.toThrow(
      /rule\.json: its rule of language identification: first-word, candidates expected; in .*candidates all/,
    );
    const judges = write("judges.json", { ...other, judges: ["another"] });
    await expect(readScores([first, judges])).rejects.toThrow(/judges\.json: its judges: another; in .*: judge\./);
    const seen = write("seen.json", { ...other, seenLanguages: ["en"] });
    await expect(readScores([first, seen])).rejects.toThrow(/seen\.json: its seen languages: en; in /);
  });

  it("are refused where a system comes twice", async () => {
    await expect(readScores([first, first])).rejects.toMatchObject({
      code: "BAD_DATA",
      message: expect.stringMatching(/"one" was there already/),
    });
  });

  it("are refused with the field that is wrong", async () => {
    const cases: readonly (readonly [unknown, RegExp])[] = [
      ["{", /not valid JSON/],
      [[], /not a score report/],
      [{ ...report, systems: [] }, /"systems": /],
      [{ ...report, systems: [{ ...report.systems[0], languages: { en: { score: "5" } } }] }, /"systems\.0\.languages\.en\.score": /],
      [{ ...report, languageId: undefined }, /"languageId": /],
    ];
    for (const [content, expected] of cases) {
      await expect(readScores([write("wrong.json", content)])).rejects.toMatchObject({
        code: "BAD_DATA",
        message: expect.stringMatching(expected),
      });
    }
    await expect(readScores([join(folder, "nowhere.json")])).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe("sizes", () => {
  it("are known of the study's models by their published names", () => {
    const sizes = {
      ...{ "bloom-560m": "BLOOM 560M", "bloom-1b1": "BLOOM 1.1B", "bloom-7b1": "BLOOM 7.1B", "pythia-70m": "Pythia 70M" },
      ...{ "pythia-1.4b-deduped": "Pythia 1.4B", "llama-13b": "LLaMA 13B", open_llama_3b: "OpenLLaMA 3B", "open-llama-7b": "OpenLLaMA 7B" },
      ...{ "Baichuan2-7B-Base": "Baichuan-2 7B", "baichuan2-13b": "Baichuan-2 13B" },
    };
    for (const [model, expected] of Object.entries(sizes)) {
      const facts = factsByName(model);
      expect(facts && `${facts.family} ${formatParameters(facts.parameters)}`).toBe(expected);
    }
    for (const model of ["bloomz-560m", "llama-2-7b", "tiny-base", "my-bloom-560m"]) expect(factsByName(model)).toBeNull();
  });

  it("are read as people write them", () => {
    const sizes = { "560M": 560e6, "1.1B": 1.1e9, "1b7": 1.7e9, "350k": 350e3, "123456": 123456, "7b": 7e9 };
    for (const [text, expected] of Object.entries(sizes)) expect(parseParameters(text)).toBe(expected);
    for (const text of ["", "big", "-7B", "0", "7 B", "1.1b1", "560MB", "1e9"]) expect(parseParameters(text)).toBeNull();
  });
});

describe("the catalog of models", () => {
  it("is YAML", async () => {
    const file = write(
      "models.yaml",
      "models:\n  tiny: { family: Toy, parameters: 1.2M }\n  small: { family: Toy, parameters: 2400000 }\n",
    );
    expect(await readModelCatalog(file)).toEqual({
      models: { tiny: { family: "Toy", parameters: 1.2e6 }, small: { family: "Toy", parameters: 2.4e6 } },
      systems: {},
    });
  });

  it("is refused with each field that is wrong and an example", async () => {
    const file = write("wrong.yaml", "models:\n  tiny: { family: Toy, parameters: big }\n  small: { parameters: 2M }\nsystem: {}\n");
    const error: Error = await readModelCatalog(file).then(
      () => new Error("was read"),
      (cause: Error) => cause,
    );
    expect(error).toMatchObject({ code: "BAD_CONFIG" });
    expect(error.message).toMatch(/"models\.tiny\.parameters": "big" is no size: expected 560M, 1\.1B or a number/);
    expect(error.message).toMatch(/"models\.small\.family": /);
    expect(error.message).toMatch(/Unrecognized key: "system"/);
    expect(error.message).toMatch(/Expected:\nmodels:\n {2}my-model: /);
    await expect(readModelCatalog(write("broken.yaml", "models: ["))).rejects.toMatchObject({ code: "BAD_CONFIG" });
    await expect(readModelCatalog(join(folder, "no.yaml"))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringMatching(/^--models /),
    });
  });
});

describe("pictures", () => {
  const settings = { scores: [first], models: null, familySize: null, png: true };

  it("are not begun where PNG is asked for and cannot be made", async () => {
    const out = join(folder, "none");
    const openPng = () => Promise.reject(new PolypacaError("UNSUPPORTED", "no converter"));
    await expect(figuresOfFiles({ ...settings, out }, { openPng })).rejects.toMatchObject({ code: "UNSUPPORTED" });
    expect(existsSync(out)).toBe(false);
  });

  it("are converted from the SVG that is written beside them", async () => {
    const openPng = async () => (svg: string) => Buffer.from(`PNG of ${svg}`);
    const { figures } = await figuresOfFiles({ ...settings, out: join(folder, "both") }, { openPng });
    expect(figures.map(({ name }) => name)).toEqual(["families-lora"]);
    for (const { svg, png } of figures) expect(readFileSync(png!, "utf8")).toBe(`PNG of ${readFileSync(svg, "utf8")}`);
  });

  it("of names that differ in nothing a file name keeps are refused", async () => {
    const toys = ["Toy+", "Toy"].flatMap((family) => ["1M", "2M"].map((size) => ({ family, size, name: `${family} ${size}` })));
    const scores = [write("toys.json", reportOf(toys.map(({ name }) => ({ ...one, system: name, model: name }))))];
    const models = write("toys.yaml", {
      models: Object.fromEntries(toys.map(({ name, family, size }) => [name, { family, parameters: size }])),
    });
    await expect(figuresOfFiles({ ...settings, png: false, scores, models, out: join(folder, "toys") })).rejects.toThrow(
      /two figures would be written to scores-lora-toy\.svg/,
    );
  });
});
