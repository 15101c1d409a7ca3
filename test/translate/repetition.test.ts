import { describe, expect, it } from "vitest";
import { findRepetition } from "../../src/translate/repetition.js";

const prose = "The old man went down to the river in the early morning and looked for the boat that his son had left there.";

describe("findRepetition", () => {
  it.each([
    ["a word over and over", "Er ging ging ging ging ging ging zum Fluss.", /"ging" 6 times in a row/],
    [
      "a phrase over and over",
      `Er ging zum Fluss ${"und dann wieder ".repeat(5)}zurück.`,
      /"(?:und dann wieder|dann wieder und|wieder und dann)" 5 times/,
    ],
    [
      "a sentence that comes again between others",
      Array.from(
        { length: 6 },
        (_, i) => `Das Boot lag noch an seinem Platz, dachte er ${["bang", "froh", "still", "laut", "müde", "kurz"][i]}.`,
      ).join(" "),
      /% of the 4-grams come again \(source: 0%\)/,
    ],
    ["characters without spaces", `老人去了河边。${"他在找船，".repeat(6)}`, /times in a row|6-grams/],
  ])("finds %s", (_, translation, detail) => {
    expect(findRepetition(prose, translation)).toMatch(detail);
  });

  it.each([
    ["prose", prose, "Der alte Mann ging am frühen Morgen zum Fluss hinunter und suchte das Boot, das sein Sohn dort gelassen hatte."],
    ["what the source repeats as well", "ha ha ha ha ha ha ha", "ха ха ха ха ха ха ха"],
    [
      "a refrain of the source",
      `${"Row, row, row your boat gently down the stream. ".repeat(4)}`,
      `${"Rudert, rudert, rudert das Boot sanft den Strom hinab. ".repeat(4)}`,
    ],
    ["few words", "no no", "nein nein nein"],
    ["nothing", "", ""],
  ])("leaves %s alone", (_, source, translation) => {
    expect(findRepetition(source, translation)).toBeNull();
  });
});
