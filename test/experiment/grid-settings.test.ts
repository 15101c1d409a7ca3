import { describe, expect, it } from "vitest";
import { checkGrid } from "../../src/experiment/grid-settings.js";
import { parseConfig } from "../../src/settings/config-file.js";

const grid = `out: out
models: [bloom-560m]
methods: [lora]
conditions: [multilingual]
languages: [en, de]
testLanguages: [en]
dataDir: data
promptsDir: prompts
`;

function errorOf(text: string): string {
  try {
    parseConfig(text, "grid.yaml", checkGrid);
  } catch (cause) {
    return (cause as Error).message;
  }
  return "";
}

describe("a grid file", () => {
  it("that is right is taken", () => {
    expect(parseConfig(grid, "grid.yaml", checkGrid)).toMatchObject({ models: ["bloom-560m"] });
  });

  it.each([
    ["a misspelt key", "seed: [1]\n", 'grid.yaml:9:1: there is no setting "seed"; did you mean "seeds"?'],
    [
      "a misspelt key of a part",
      "train:\n  lora:\n    loraRnak: 4\n",
      'grid.yaml:11:5: there is no setting "loraRnak"; did you mean "loraRank"?',
    ],
    ["a misspelt key of a model", "figures: { pgn: true }\n", 'grid.yaml:9:12: there is no setting "pgn"; did you mean "png"?'],
    ["a value of the wrong kind", "train:\n  epochs: many\n", "grid.yaml:10:11"],
    ["a seed named twice", "seeds: [1, 2, 1]\n", 'grid.yaml:9:15: "seeds.2": 1 is named twice'],
    ["a preset of the other method", "train: { fft: { preset: paper-lora } }\n", "grid.yaml:9:25"],
    ["a judge without a model", "judge: { concurrency: 2 }\n", "grid.yaml:9:8"],
    ["what the grid decides itself", "train: { out: there }\n", 'there is no setting "out"'],
  ])("with %s is refused by line and column", (_, more, message) => {
    expect(errorOf(grid + more)).toContain(message);
  });

  it("with English as a condition and no English data is refused", () => {
    expect(errorOf(grid.replace("multilingual", "english").replace("[en, de]", "[fi, de]"))).toContain(
      'grid.yaml:4:14: "conditions.0": english needs en among the languages',
    );
  });

  it("with monolingual models and no test language of theirs is refused", () => {
    expect(errorOf(grid.replace("multilingual", "monolingual").replace("[en, de]", "[fi, de]"))).toContain("grid.yaml:6:16");
  });

  it("with a model described wrongly says which field of which model", () => {
    expect(errorOf(grid.replace("[bloom-560m]", "[bloom-560m, { name: mine, famly: BLOOM }]"))).toContain(
      'grid.yaml:2:36: there is no setting "famly"; did you mean "family"?',
    );
  });

  it("that lacks something says what", () => {
    expect(errorOf(grid.replace("out: out\n", ""))).toContain('"out"');
  });
});
