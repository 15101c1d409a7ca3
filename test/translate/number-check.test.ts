import { describe, expect, it } from "vitest";
import { digitValue, toAsciiDigits } from "../../src/translate/digits.js";
import { findMissingNumbers } from "../../src/translate/number-check.js";

describe("findMissingNumbers", () => {
  it.each([
    ["the same", "In 1984 we had 35%.", "1984 hatten wir 35 %."],
    ["another decimal sign", "3.14 and 1,234.5", "3,14 und 1.234,5"],
    ["spaces, thin or not, between thousands", "1,234,567 people", "1 234 567 человек"],
    ["spaces that do not break", "25,000 people", "25\u202f000 personnes"],
    ["apostrophes between thousands", "25,000 people", "25’000 Leute"],
    ["groups of India", "1,234,567 people", "12,34,567 लोग"],
    ["no separators", "$10,000", "10000 dolarů"],
    ["digits of other scripts", "the year 2024, 35%", "साल २०२४, ३५%"],
    ["Arabic signs", "1,234.5", "١٬٢٣٤٫٥"],
    ["full-width digits", "room 217", "２１７号室"],
    ["units of ten thousand", "1.5 million and 150,000", "150万和15万"],
    ["Roman numerals", "the 19th century", "XIX век"],
    ["Chinese numerals", "20 or 35 of them", "其中二十或三十五个"],
    ["small numbers as words", "3 dogs, 12 cats", "drei Hunde, zwölf Katzen"],
    ["lists spaced otherwise", "15,27,39", "15, 27, 39"],
    ["times of day", "at 10:45", "um 10.45 Uhr"],
  ])("finds %s", (_, source, translation) => {
    expect(findMissingNumbers(source, translation)).toEqual([]);
  });

  it.each([
    ["one that is gone", "In 1984 and 2001", "Im Jahr 2001", ["1984"]],
    ["one that has changed", "35% of 417", "36 % von 417", ["35"]],
    ["one that is part of another", "all 45", "alle 1457", ["45"]],
    ["a decimal that became another", "3.14", "3,41", ["3.14"]],
    ["each once", "417 and 417", "nichts", ["417"]],
    ["Roman letters inside a word", "19 dogs", "XIXER", ["19"]],
  ])("reports %s", (_, source, translation, missing) => {
    expect(findMissingNumbers(source, translation)).toEqual(missing);
  });
});

describe("digits", () => {
  it("have the value of their place in the ten of their script", () => {
    const digits: number[] = [];
    for (let codePoint = 0; codePoint <= 0x10ffff; codePoint++) {
      if (/^\p{Nd}$/u.test(String.fromCodePoint(codePoint))) digits.push(codePoint);
    }
    expect(digits.length).toBeGreaterThan(600);
    // Unicode's digits come in runs of ten, in order.
    digits.forEach((codePoint, i) => {
      expect(digitValue(String.fromCodePoint(codePoint)), codePoint.toString(16)).toBe(i % 10);
    });
  });

  it("leave the rest of a text as it is", () => {
    expect(toAsciiDigits("a١b２c½")).toBe("a1b2c½");
  });
});
