import { describe, expect, it } from "vitest";
import type { Comparison } from "../../src/evaluate/compare-systems.js";
import { identifyResponses } from "../../src/evaluate/language-match.js";
import { type ScoreInput, type ScoreReport, score } from "../../src/evaluate/score.js";
import { identifier, inputOf, judgement, response, rowsOf } from "./rows.js";

function scoreOf(...args: Parameters<typeof inputOf>): ScoreReport {
  return score(inputOf(...args), identifier);
}

describe("score", () => {
  it("sums rating x language match, by hand", () => {
    const { systems } = scoreOf([rowsOf("a", { en: "e3 f2 u1 e3", fr: "f2 f2 f3 e1", bn: "b1 e3" })]);
    // en: 3 + 0 + 0 + 3 of 9; fr: 2 + 2 + 3 + 0 of 8; bn: 1 + 0 of 4; robustness over en and fr: (3 + 1) / 2
    expect(systems).toMatchObject([
      {
        system: "a",
        robustness: 2,
        languages: {
          en: { score: 6, scoreBeforeLanguageId: 9, prompts: 4, undecided: 1, incomplete: 0, consistency: 0.5, candidates: "all" },
          fr: { score: 7, scoreBeforeLanguageId: 8, prompts: 4, undecided: 0, incomplete: 0, consistency: 0.75 },
          bn: { score: 1, scoreBeforeLanguageId: 4, prompts: 2, undecided: 0, incomplete: 0, consistency: 0.5 },
        },
      },
    ]);
  });

  it("reaches 0 and 150 with 50 prompts", () => {
    const all = (code: string): string => new Array<string>(50).fill(code).join(" ");
    const { systems } = scoreOf([rowsOf("best", { en: all("e3") }), rowsOf("worst", { en: all("f3") })]);
    expect(systems.map(({ languages }) => languages.en!.score)).toEqual([150, 0]);
    expect(systems[0]).toMatchObject({ robustness: 0, languages: { en: { interval: null } } });
    expect(systems[1]).toMatchObject({ robustness: 150, robustnessInterval: null });
  });

  it("takes Bokmål's prompts for Norwegian, which is what identifiers answer", () => {
    const rows = { responses: [response("a", "nb", "1", "no: ja")], judgements: [judgement("a", "nb", "1", 2)] };
    expect(scoreOf([rows]).systems[0]!.languages.nb).toMatchObject({ score: 2, consistency: 1 });
  });

  it("gives an interval around the score, and the robustness of prompts with all their languages", () => {
    const { systems } = scoreOf([rowsOf("a", { en: "e3 f2 u1 e3 e2 e1", fr: "f2 f2 f3 e1 f3 f3" })]);
    const { languages, robustness, robustnessInterval } = systems[0]!;
    const { score: value, interval } = languages.en!;
    expect(interval![0]).toBeLessThan(value);
    expect(interval![1]).toBeGreaterThan(value);
    expect(robustnessInterval![0]).toBeLessThan(robustness!);
    expect(robustnessInterval![1]).toBeGreaterThan(robustness!);
  });

  it("does not change a system's figures by what other systems are there, or in what order", () => {
    const a = rowsOf("a", { en: "e3 f2 u1 e3 e2" });
    const b = rowsOf("b", { en: "e1 e2 e1 f3 e2" });
    const alone = scoreOf([a]).systems[0];
    expect(scoreOf([a, b]).systems[0]).toEqual(alone);
    expect(scoreOf([b, a]).systems[1]).toEqual(alone);
  });

  it("has no score where a system has no response in a language", () => {
    const { systems } = scoreOf([rowsOf("a", { en: "e3" }), rowsOf("b", { en: "e3", bn: "b2" })]);
    expect(Object.keys(systems[0]!.languages)).toEqual(["en"]);
    expect(scoreOf([rowsOf("a", { bn: "b2" })]).systems[0]).toMatchObject({ robustness: null, robustnessInterval: null });
  });
});

describe("incomplete cells", () => {
  it("are sums of what was judged, never scaled, without an interval", () => {
    const { systems, incomplete } = scoreOf([rowsOf("a", { en: "e3 e- f2 e2 e1", fr: "f2 f1 f3 f3 f3" })]);
    expect(incomplete).toBe(1);
    expect(systems[0]!.languages.en).toMatchObject({ score: 6, scoreBeforeLanguageId: 8, prompts: 5, incomplete: 1, interval: null });
    expect(systems[0]!.languages.fr).toMatchObject({ incomplete: 0, interval: expect.any(Array) });
    expect(systems[0]).toMatchObject({ robustness: 1, robustnessInterval: null });
  });

  it("come from a missing judgement, a missing response and a missing prompt's answer alike", () => {
    const { responses, judgements } = rowsOf("a", { en: "e3 e3 e2" });
    const unjudged = scoreOf([{ responses, judgements: judgements.slice(1) }]);
    expect(unjudged.systems[0]!.languages.en).toMatchObject({ score: 5, prompts: 3, incomplete: 1, consistency: 1 });
    const other = rowsOf("b", { en: "e3 e3 e2 e1" });
    const unanswered = scoreOf([{ responses, judgements }, other]);
    expect(unanswered.systems.map(({ languages }) => languages.en!)).toMatchObject([
      { prompts: 4, incomplete: 1 },
      { prompts: 4, incomplete: 0 },
    ]);
    const prompts = [1, 2, 3, 4, 5].map((id) => ({ id, language: "en" }));
    expect(scoreOf([{ responses, judgements }], { prompts }).systems[0]!.languages.en).toMatchObject({
      score: 8,
      prompts: 5,
      incomplete: 2,
    });
  });

  it("can lack every judgement", () => {
    const { systems } = scoreOf([rowsOf("a", { en: "e- e-", fr: "f3 f2" })]);
    expect(systems[0]!.languages.en).toMatchObject({ score: 0, prompts: 2, incomplete: 2, interval: null });
  });
});

describe("several judges and repeats", () => {
  const responses = [response("a", "en", "1"), response("a", "en", "2")];
  const twoJudges = (last: number | null) => [
    ...[judgement("a", "en", "1", 3, "x", 1), judgement("a", "en", "1", 2, "x", 2), judgement("a", "en", "1", 1, "y", 1)],
    ...[judgement("a", "en", "2", 3, "x", 1), judgement("a", "en", "2", 3, "x", 2), judgement("a", "en", "2", last, "y", 1)],
  ];

  it("average to the mean over judges of each one's mean over repeats", () => {
    const report = scoreOf([{ responses, judgements: twoJudges(2) }]);
    // ((3 + 2) / 2 + 1) / 2 = 1.75 and (3 + 2) / 2 = 2.5
    expect(report.systems[0]!.languages.en).toMatchObject({ score: 4.25, incomplete: 0 });
    expect(report).toMatchObject({ judges: ["x", "y"], judgementsPerPair: 3 });
  });

  it("leave a pair out that lacks one of them", () => {
    const report = scoreOf([{ responses, judgements: twoJudges(null) }]);
    expect(report.systems[0]!.languages.en).toMatchObject({ score: 1.75, incomplete: 1 });
  });

  it("report how a judge agrees with itself, and the judges with each other", () => {
    const { judgeAgreement } = scoreOf([{ responses, judgements: twoJudges(2) }]);
    // x: (3, 2) and (3, 3): observed (1 + 1 + 0) / 4, expected over all ordered pairs of 3 2 3 3: 6 / 12, alpha = 1 - 0.5 / 0.5
    expect(judgeAgreement[0]).toMatchObject({ judge: "x", ratings: 2, pairs: 2, identical: 0.5, alpha: 0 });
    // between: (2.5, 1) and (3, 2): observed (2 x 1.5^2 + 2 x 1^2) / 4 = 1.625, expected over 2.5 1 3 2: 2 x 4 x 2.1875 / 12
    expect(judgeAgreement[1]).toMatchObject({ judge: null, ratings: 2, pairs: 2, identical: 0 });
    expect(judgeAgreement[1]!.alpha).toBeCloseTo(1 - 1.625 / (17.5 / 12), 12);
  });
});

describe("comparisons", () => {
  const named = (condition: string, method = "lora") => ({ model: "bloom", method, condition, seed: 1 });
  const systems = [
    rowsOf("mono", { en: "e3 e3 e3", fr: "f3 f2 f2" }, named("monolingual")),
    rowsOf("multi", { en: "e2 e2 e2", fr: "f3 f1 e3", bn: "b1 b1 b1" }, named("multilingual")),
    rowsOf("fft", { en: "e1 e1 e2" }, named("multilingual", "fft")),
  ];
  const compare = (comparing: ScoreInput["comparing"]) => scoreOf(systems, { comparing }).comparisons;

  it("test the differences on shared prompts, by hand, per language and over the seen ones", () => {
    const compared = compare("conditions");
    // en: 1 1 1 (2 of 8 patterns); fr: 0 1 2 (all 4 patterns of 1, 2 with |sum| = 3: 2); seen: 1 2 3 (2 of 8), mean (3 + 3) / 2
    expect(compared).toMatchObject([
      { systems: ["mono", "multi"], language: "en", difference: 3, prompts: 3, p: 0.25, method: "exact", interval: null, pAdjusted: 0.75 },
      { systems: ["mono", "multi"], language: "fr", difference: 3, prompts: 3, p: 0.5, pAdjusted: 0.75 },
      { systems: ["mono", "multi"], language: "seen", difference: 3, prompts: 3, p: 0.25, pAdjusted: 0.75 },
    ]);
  });

  it("are by default of systems that differ in nothing but the condition", () => {
    const pairs = (comparing: ScoreInput["comparing"]): string[] => [
      ...new Set(compare(comparing).map((each) => each.systems.join(" - "))),
    ];
    expect(pairs("conditions")).toEqual(["mono - multi"]);
    expect(pairs("all")).toEqual(["mono - multi", "mono - fft", "multi - fft"]);
    expect(pairs({ baseline: "multi" })).toEqual(["mono - multi", "fft - multi"]);
    expect(pairs("none")).toEqual([]);
  });

  it("have an interval around the difference, of five prompts and more", () => {
    const rows = [rowsOf("a", { en: "e3 e3 e2 e3 e1 e2" }), rowsOf("b", { en: "e1 e2 e2 e1 e2 e2" })];
    const [{ difference, interval }] = scoreOf(rows, { comparing: "all" }).comparisons as [Comparison];
    expect(difference).toBe(4);
    expect(interval![0]).toBeLessThan(4);
    expect(interval![1]).toBeGreaterThan(4);
  });

  it("leave out prompts that one of the two lacks", () => {
    const rows = [rowsOf("a", { en: "e3 e- e1" }), rowsOf("b", { en: "e1 e1 e-" })];
    expect(scoreOf(rows, { comparing: "all" }).comparisons).toMatchObject([{ difference: 2, prompts: 1, p: 1 }]);
  });

  it("name the systems there are where the baseline is none of them", () => {
    expect(() => compare({ baseline: "mlti" })).toThrow(
      expect.objectContaining({
        code: "USAGE",
        message: expect.stringMatching(/--baseline mlti: there is no such system, only "mono", "multi", "fft"/),
      }),
    );
  });
});

describe("what score refuses, by file and line", () => {
  const refusal = (input: ScoreInput): string => {
    try {
      score(input, identifier);
    } catch (cause) {
      return (cause as Error).message;
    }
    return "";
  };
  const at = (line: number) => ({ file: "f.jsonl", index: line - 1, line, column: 1 });

  it("judgements without a response", () => {
    const rows = rowsOf("a", { en: "e3" });
    const orphan = { ...judgement("a", "en", "9", 3), place: at(7) };
    expect(refusal(inputOf([{ ...rows, judgements: [...rows.judgements, orphan] }]))).toMatch(
      /^f\.jsonl line 7, column 1: a judgement without its response: system "a", language en, id "9"\n/,
    );
  });

  it("judgements of another evaluation", () => {
    const { responses } = rowsOf("a", { en: "e3" });
    const { judgements } = rowsOf("b", { en: "e3" });
    expect(refusal(inputOf([{ responses, judgements }]))).toMatch(/^no judgement belongs to a response: .*system "b".*system "a"/);
  });

  it("languages that the identifier does not know", async () => {
    const strange = { ...response("a", "xx", "1"), place: at(4) };
    await expect(identifyResponses([...rowsOf("a", { en: "e3" }).responses, strange], identifier)).rejects.toMatchObject({
      ...{ code: "BAD_RECORD", message: expect.stringMatching(/^f\.jsonl line 4, .*first-word does not know the language "xx"/) },
    });
  });

  it("monolingual systems' rows in unseen languages", () => {
    const rows = rowsOf("mono", { bn: "b3" }, { condition: "monolingual", place: at(2) });
    expect(refusal(inputOf([rows]))).toMatch(/^f\.jsonl line 2, .*no monolingual model is trained on bn\n.*--seen-langs \(now en,fr\)/);
  });

  it("responses to none of the prompts", () => {
    const rows = rowsOf("a", { en: "e3 e2" }, { place: at(3) });
    expect(refusal(inputOf([rows], { prompts: [{ id: "1", language: "en" }] }))).toMatch(
      /^f\.jsonl line 3, .*a response to none of the --prompts: .*id "2"/,
    );
  });
});
