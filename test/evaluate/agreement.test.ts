import { describe, expect, it } from "vitest";
import { CounterRandom, randomPurpose } from "../../src/data/philox.js";
import { type AgreementInput, agreement } from "../../src/evaluate/agreement.js";
import { agreementAsCsv, agreementTable } from "../../src/evaluate/agreement-files.js";
import type { HumanScore } from "../../src/evaluate/read-human-scores.js";
import type { Judgement } from "../../src/evaluate/read-judgements.js";
import { tableAsText } from "../../src/evaluate/table.js";
import { judgement } from "./rows.js";
import { choose } from "./statistics/simulation.js";

const place = { file: "h.csv", index: 0, line: 2, column: 1 };

function human(system: string, language: string, id: string, rating: number, rater = "human"): HumanScore {
  return { system, language, id, rating, rater, place };
}

/** Ratings of each system's responses to prompts 1, 2, ... in English: a digit each, by people and by the judge. */
function inputOf(
  ratings: Readonly<Record<string, readonly [human: string, judge: string]>>,
  settings: Partial<AgreementInput> = {},
): AgreementInput {
  const humanScores: HumanScore[] = [];
  const judgements: Judgement[] = [];
  for (const [system, [byHuman, byJudge]] of Object.entries(ratings)) {
    for (const [index, rating] of [...byHuman].entries()) humanScores.push(human(system, "en", `${index}`, Number(rating)));
    for (const [index, rating] of [...byJudge].entries())
      judgements.push(judgement(system, "en", `${index}`, rating === "-" ? null : Number(rating)));
  }
  return { humanScores, judgements, humanScale: { min: 1, max: 3 }, resamples: 400, seed: 0, ...settings };
}

describe("agreement", () => {
  it("correlates systems' means, by hand", () => {
    // human means 3, 2, 1; judge means 2.5, 3, 1: dx = 1 0 -1, dy = 1/3 5/6 -7/6; r = (1/3 + 7/6) / sqrt(2 * (4 + 25 + 49) / 36)
    const { judges } = agreement(inputOf({ a: ["33", "32"], b: ["22", "33"], c: ["11", "11"] }));
    const { pearson, spearman, kendall, systems, pairs } = judges[0]!.languages.en!;
    expect({ systems, pairs }).toEqual({ systems: 3, pairs: 6 });
    expect(pearson.value).toBeCloseTo(1.5 / Math.sqrt((2 * 78) / 36), 12);
    expect(spearman.value).toBeCloseTo(0.5, 12); // ranks 3 2 1 and 2 3 1
    expect(kendall.value).toBeCloseTo(1 / 3, 12); // two of three pairs in one order
  });

  it("weighs kappa over responses, by hand", () => {
    // human 3 3 2 1, judge 3 2 2 1: observed one apart 1/4; margins 1/4 1/4 1/2 and 1/4 1/2 1/4: expected one apart
    // (1 x 2 + 1 x 1 + 1 x 1 + 2 x 2) / 16 = 8/16, two apart (1 x 1 + 2 x 1) / 16 = 3/16
    const { overall } = agreement(inputOf({ a: ["33", "32"], b: ["21", "21"] })).judges[0]!;
    expect(overall.linearKappa.value).toBeCloseTo(1 - 4 / 16 / ((8 + 2 * 3) / 16), 12);
    expect(overall.quadraticKappa.value).toBeCloseTo(1 - 4 / 16 / ((8 + 4 * 3) / 16), 12);
  });

  it("compares only what both rated, and counts what the judge did not", () => {
    const { judges } = agreement(inputOf({ a: ["321", "3-1111"], b: ["12", "12"] }));
    expect(judges[0]!.languages.en).toMatchObject({ pairs: 4, unjudged: 1, systems: 2 });
  });

  it("counts a response once, however many rated it", () => {
    const once = inputOf({ a: ["331", "321"], b: ["213", "213"] });
    const raters = ["x", "y"].flatMap((rater) => once.humanScores.map((score) => ({ ...score, rater })));
    const repeats = [1, 2].flatMap((repeat) => once.judgements.map((row) => ({ ...row, repeat })));
    const [single, several] = [agreement(once), agreement({ ...once, humanScores: raters, judgements: repeats })];
    expect(several.judges[0]!.overall.pairs).toBe(6);
    expect(several.judges[0]!.overall.linearKappa.value).toBeCloseTo(single.judges[0]!.overall.linearKappa.value!, 12);
    expect(several.judges[0]!.languages.en!.pearson.value).toBeCloseTo(single.judges[0]!.languages.en!.pearson.value!, 12);
    expect([single.humanAlpha, several.humanAlpha]).toEqual([null, 1]);
  });

  it("reports each judge on its own", () => {
    const input = inputOf({ a: ["31", "31"], b: ["13", "13"] });
    const contrary = input.judgements.map((row) => ({ ...row, judge: "contrary", rating: 4 - row.rating! }));
    const { judges } = agreement({ ...input, judgements: [...input.judgements, ...contrary] });
    expect(judges.map(({ judge, overall }) => [judge, overall.linearKappa.value])).toEqual([
      ["judge", 1],
      ["contrary", -1],
    ]);
  });

  it("has no kappa on another scale, or between whole numbers, and no NaN where all is equal", () => {
    const none = { value: null, interval: null };
    const input = inputOf({ a: ["31", "31"], b: ["13", "13"] });
    expect(agreement({ ...input, humanScale: { min: 0, max: 5 } }).judges[0]!.overall).toMatchObject({
      quadraticKappa: none,
      linearKappa: none,
    });
    const halves = input.humanScores.map((score) => ({ ...score, rating: 1.5 }));
    expect(agreement({ ...input, humanScores: halves }).judges[0]!.overall.linearKappa).toEqual(none);
    const equal = agreement(inputOf({ a: ["33", "33"], b: ["33", "33"] })).judges[0]!.languages.en!;
    expect(equal).toMatchObject({ pearson: none, spearman: none, kendall: none, quadraticKappa: none, linearKappa: none });
  });

  it("refuses human scores without a judgement by file and line, and files that have nothing in common", () => {
    const input = inputOf({ a: ["33", "3"] });
    expect(() => agreement(input)).toThrow(/^h\.csv line 2, .*judge has no judgement of system "a", language en, id "1"\n/);
    expect(() => agreement({ ...input, humanScores: [human("z", "en", "0", 3)] })).toThrow(
      expect.objectContaining({
        code: "BAD_DATA",
        message: expect.stringMatching(/^no human score belongs to a judgement of judge: .*"z".*"a"/),
      }),
    );
  });
});

describe("95% intervals of weighted kappa", () => {
  it("cover the truth in about 95% of 300 samples of 50 prompts with 3 systems each", () => {
    // The judge repeats the human rating with probability 0.6, else draws from the same shares: kappa is 0.6 whatever the weights.
    const shares = [0.3, 0.3, 0.4];
    const random = new CounterRandom(41, randomPurpose.bootstrap, 6);
    let covered = 0;
    for (let trial = 0; trial < 300; trial++) {
      const draw = (): readonly [string, string] => {
        const byHuman = Array.from({ length: 50 }, () => choose(shares, random));
        const byJudge = byHuman.map((rating) => (choose([0.6, 0.4], random) === 0 ? rating : choose(shares, random)));
        return [byHuman.map((rating) => rating + 1).join(""), byJudge.map((rating) => rating + 1).join("")];
      };
      const { overall } = agreement(inputOf({ a: draw(), b: draw(), c: draw() }, { resamples: 300 })).judges[0]!;
      const [low, high] = overall.quadraticKappa.interval!;
      if (low <= 0.6 && 0.6 <= high) covered++;
    }
    expect(covered / 300).toBeGreaterThan(0.91);
    expect(covered / 300).toBeLessThan(0.99);
  });
});

describe("the agreement table", () => {
  const report = agreement(inputOf({ a: ["33313", "32323"], b: ["22212", "33211"], c: ["11232", "11123"] }));

  it("prints", () => {
    expect(tableAsText(agreementTable(report))).toMatchInlineSnapshot(`
      "Agreement of judge and human scores, before language identification.

      judge  language  systems  responses  Pearson  Spearman  Kendall  kappa (quadratic)     kappa (linear)
      -----------------------------------------------------------------------------------------------------
      judge  en              3         15     0.92      0.87     0.82  0.60 [0.50, 0.78]  0.40 [0.25, 0.62]
      judge  all             -         15        -         -        -  0.60 [0.50, 0.78]  0.40 [0.25, 0.62]

      Pearson, Spearman, Kendall (tau-b): over systems, of mean scores; 95% intervals by Fisher's z (Bonett and Wright 2000). Kappa: over responses,
      quadratic and linear weights; 95% intervals by BCa bootstrap over prompts, 400 resamples, seed 0. No interval: too few values, or no variation.
      People: 1; scale 1 to 3."
    `);
  });

  it("is a row per measure in CSV", () => {
    const [header, ...rows] = agreementAsCsv(report).split("\n");
    expect(header).toBe("judge,language,systems,responses,measure,value,low,high");
    expect(rows).toHaveLength(7); // five measures of English, two of all languages
    expect(rows[0]).toMatch(/^judge,en,3,15,pearson,0\.\d+,,$/);
    expect(rows[6]).toMatch(/^judge,all,,15,linearKappa,0\.\d+,-?0\.\d+,0\.\d+$/);
  });
});
