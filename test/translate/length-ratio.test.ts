import { describe, expect, it } from "vitest";
import { priorRatio, ratioDeviation, type TextLengths, usualRatio } from "../../src/translate/length-ratio.js";
import { numbersFrom } from "../data/data-folder.js";

/** Texts of a pair whose translations are `ratio` times as long, give or take a tenth. */
function texts(count: number, ratio: number): TextLengths[] {
  const next = numbersFrom(5);
  return Array.from({ length: count }, () => {
    const source = 40 + next(800);
    return { source, translation: Math.round(source * ratio * (0.9 + next(200) / 1000)) };
  });
}

describe("the usual ratio of lengths", () => {
  it("is the prior where nothing has been seen", () => {
    expect(usualRatio([], priorRatio("en", "zh"))).toEqual(priorRatio("en", "zh"));
    expect(Math.exp(priorRatio("en", "zh").center)).toBeCloseTo(0.33, 2);
    expect(priorRatio("zh", "en").center).toBeCloseTo(-priorRatio("en", "zh").center, 10);
  });

  it("says little of a language it has no measurement of", () => {
    expect(priorRatio("en", "xh").spread).toBeGreaterThan(4 * priorRatio("en", "de").spread);
  });

  it("is learned from the run, whatever the prior says", () => {
    const usual = usualRatio(texts(2000, 0.6), priorRatio("en", "de"));
    expect(Math.exp(usual.center)).toBeGreaterThan(0.58);
    expect(Math.exp(usual.center)).toBeLessThan(0.62);
  });

  it("is not moved by a fifth of the texts being wrong", () => {
    const good = texts(800, 1.1);
    const usual = usualRatio([...good, ...texts(200, 0.1)], priorRatio("en", "de"));
    expect(Math.exp(usual.center)).toBeGreaterThan(1.02);
    expect(usual.spread).toBeLessThan(2 * usualRatio(good, priorRatio("en", "de")).spread);
  });

  it("leans on the prior while there are few texts", () => {
    const few = usualRatio(texts(5, 0.6), priorRatio("en", "fi"));
    expect(Math.exp(few.center)).toBeGreaterThan(0.85);
  });

  it("allows short texts more than long ones", () => {
    const usual = priorRatio("en", "de");
    const deviationAt = (source: number): number => ratioDeviation({ source, translation: 2 * source }, usual);
    expect(deviationAt(25)).toBeLessThan(deviationAt(1000) / 2);
    expect(deviationAt(1000)).toBeGreaterThan(5);
  });

  it("has a least spread, so that a provider that gives back the source does not make each change a fault", () => {
    const usual = usualRatio(
      Array.from({ length: 5000 }, () => ({ source: 100, translation: 100 })),
      priorRatio("en", "en"),
    );
    expect(usual.spread).toBe(0.05);
  });
});
