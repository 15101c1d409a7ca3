import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { LanguageScore, ScoreReport } from "../../src/evaluate/score.js";
import { scoresAsLatex, scoresAsText, writeScoreFiles } from "../../src/evaluate/score-files.js";
import { comparisonsAsCsv, robustnessAsCsv, scoresAsCsv, scoreTables } from "../../src/evaluate/score-tables.js";
import { escapeLatex, recordsAsCsv } from "../../src/evaluate/table.js";
import { response } from "./rows.js";

const cell: LanguageScore = {
  ...{ score: 112, scoreBeforeLanguageId: 118.5, prompts: 50, undecided: 0, incomplete: 0, consistency: 0.94, candidates: "all" },
  ...{ interval: [98, 124.25], intervalBeforeLanguageId: [104, 129], consistencyInterval: [0.838, 0.979] },
};

const report: ScoreReport = {
  languageId: { model: "lid.176.ftz", candidates: "all" },
  ...{ seenLanguages: ["en", "fr"], judges: ["judge-1"], judgementsPerPair: 2 },
  judgeAgreement: [{ judge: "judge-1", ratings: 2, pairs: 150, identical: 0.9, alpha: 0.8512 }],
  systems: [
    {
      ...{ system: "bloom_560m & multi", model: "bloom-560m", method: "lora", condition: "multilingual", seed: 1 },
      languages: { bn: { ...cell, score: 3, undecided: 4, interval: null }, fr: cell, en: cell },
      ...{ robustness: 6.5, robustnessInterval: [2.25, 11] },
    },
    {
      ...{ system: "mono", model: "bloom-560m", method: "lora", condition: "monolingual", seed: null },
      languages: { en: { ...cell, score: 87, incomplete: 3, interval: null, intervalBeforeLanguageId: null } },
      ...{ robustness: 0, robustnessInterval: null },
    },
  ],
  comparisons: [
    {
      ...{ systems: ["bloom_560m & multi", "mono"], language: "en", difference: -3.5, interval: [-9, 1.5], prompts: 47 },
      ...{ p: 0.0004, pAdjusted: 0.04, method: "exact" },
    },
  ],
  ...{ incomplete: 1, confidence: 0.95, resamples: 10_000, seed: 0 },
};

describe("score tables", () => {
  it("as text", () => {
    expect(scoresAsText(report)).toMatchInlineSnapshot(`
      "Score: rating x language match, summed over the prompts. Language identification: lid.176.ftz, candidates all (any language it knows).

      system                           en               fr  bn (unseen)      robustness
      ---------------------------------------------------------------------------------
      bloom_560m & multi  112 [98, 124.3]  112 [98, 124.3]            3  6.5 [2.25, 11]
      mono                     87 (47/50)                -            -  0 (incomplete)

      95% intervals in brackets: BCa bootstrap over prompts, 10000 resamples, seed 0; none where all prompts have one score.
      Robustness: mean drop by language identification over the seen languages; smaller is better.
      Judge: judge-1; a pair's rating is the mean over judges of each one's mean over its repeats (2 judgements).
      Incomplete: (n/N) is the sum of the n prompts that were judged, of N; it is not scaled up and has no interval.

      Score before language identification: ratings summed over the prompts, whatever the language. Language identification: lid.176.ftz, candidates all (any language it knows).

      system                            en                fr       bn (unseen)
      ------------------------------------------------------------------------
      bloom_560m & multi  118.5 [104, 129]  118.5 [104, 129]  118.5 [104, 129]
      mono                   118.5 (47/50)                 -                 -

      Incomplete: (n/N) is the sum of the n prompts that were judged, of N; it is not scaled up and has no interval.

      Language consistency: share of the responses in the prompt's language. Language identification: lid.176.ftz, candidates all (any language it knows).

      system                          en              fr        bn (unseen)
      ---------------------------------------------------------------------
      bloom_560m & multi  94% [84%, 98%]  94% [84%, 98%]  94% [84%, 98%] 4u
      mono                94% [84%, 98%]               -                  -

      95% intervals in brackets: Wilson. u: responses whose language is undecided; they match nothing.

      Differences in score between systems A and B on the same prompts. Language identification: lid.176.ftz, candidates all (any language it knows).

      A                   B     language           A - B  prompts       p  p (Holm)
      -----------------------------------------------------------------------------
      bloom_560m & multi  mono  en        -3.5 [-9, 1.5]       47  <0.001     0.040

      95% intervals in brackets: BCa bootstrap over prompts, 10000 resamples, seed 0. "seen": mean over the seen languages that both have.
      p: two-sided paired sign-flip test, exact; p (Holm): for all 1 comparisons of this table together.

      Agreement of the judges with themselves and each other, before language identification. Language identification: lid.176.ftz, candidates all (any language it knows).

      judge    ratings  pairs  identical  alpha
      -----------------------------------------
      judge-1        2    150        90%   0.85

      alpha: Krippendorff's, interval metric; 1 is perfect, 0 is chance."
    `);
  });

  it("as LaTeX, escaped", () => {
    expect(scoresAsLatex({ ...report, comparisons: report.comparisons, judgeAgreement: [] })).toMatchInlineSnapshot(`
      "\\begin{table}
      \\centering
      \\caption{Score: rating x language match, summed over the prompts. Language identification: lid.176.ftz, candidates all (any language it knows). 95\\% intervals in brackets: BCa bootstrap over prompts, 10000 resamples, seed 0; none where all prompts have one score. Robustness: mean drop by language identification over the seen languages; smaller is better. Judge: judge-1; a pair's rating is the mean over judges of each one's mean over its repeats (2 judgements). Incomplete: (n/N) is the sum of the n prompts that were judged, of N; it is not scaled up and has no interval.}
      \\label{tab:scores}
      \\begin{tabular}{lrrrr}
      \\toprule
      system & en & fr & bn (unseen) & robustness \\\\
      \\midrule
      bloom\\_560m \\& multi & 112 [98, 124.3] & 112 [98, 124.3] & 3 & 6.5 [2.25, 11] \\\\
      mono & 87 (47/50) & -- & -- & 0 (incomplete) \\\\
      \\bottomrule
      \\end{tabular}
      \\end{table}

      \\begin{table}
      \\centering
      \\caption{Score before language identification: ratings summed over the prompts, whatever the language. Language identification: lid.176.ftz, candidates all (any language it knows). Incomplete: (n/N) is the sum of the n prompts that were judged, of N; it is not scaled up and has no interval.}
      \\label{tab:scores-before-language-id}
      \\begin{tabular}{lrrr}
      \\toprule
      system & en & fr & bn (unseen) \\\\
      \\midrule
      bloom\\_560m \\& multi & 118.5 [104, 129] & 118.5 [104, 129] & 118.5 [104, 129] \\\\
      mono & 118.5 (47/50) & -- & -- \\\\
      \\bottomrule
      \\end{tabular}
      \\end{table}

      \\begin{table}
      \\centering
      \\caption{Language consistency: share of the responses in the prompt's language. Language identification: lid.176.ftz, candidates all (any language it knows). 95\\% intervals in brackets: Wilson. u: responses whose language is undecided; they match nothing.}
      \\label{tab:language-consistency}
      \\begin{tabular}{lrrr}
      \\toprule
      system & en & fr & bn (unseen) \\\\
      \\midrule
      bloom\\_560m \\& multi & 94\\% [84\\%, 98\\%] & 94\\% [84\\%, 98\\%] & 94\\% [84\\%, 98\\%] 4u \\\\
      mono & 94\\% [84\\%, 98\\%] & -- & -- \\\\
      \\bottomrule
      \\end{tabular}
      \\end{table}

      \\begin{table}
      \\centering
      \\caption{Differences in score between systems A and B on the same prompts. Language identification: lid.176.ftz, candidates all (any language it knows). 95\\% intervals in brackets: BCa bootstrap over prompts, 10000 resamples, seed 0. \\textquotedbl{}seen\\textquotedbl{}: mean over the seen languages that both have. p: two-sided paired sign-flip test, exact; p (Holm): for all 1 comparisons of this table together.}
      \\label{tab:comparisons}
      \\begin{tabular}{lllrrrr}
      \\toprule
      A & B & language & A - B & prompts & p & p (Holm) \\\\
      \\midrule
      bloom\\_560m \\& multi & mono & en & $-$3.5 [$-$9, 1.5] & 47 & \\textless{}0.001 & 0.040 \\\\
      \\bottomrule
      \\end{tabular}
      \\end{table}"
    `);
  });

  it("each name the rule of language identification", () => {
    for (const { caption } of scoreTables(report)) expect(caption).toContain("Language identification: lid.176.ftz, candidates all");
    const expected = { ...report, languageId: { model: "lid.176.ftz", candidates: "expected" } } as const;
    for (const { caption } of scoreTables(expected)) expect(caption).toContain("candidates expected (only the languages under test)");
  });

  it("as CSV, a row per system and language", () => {
    expect(scoresAsCsv(report)).toMatchInlineSnapshot(`
      "system,model,method,condition,seed,language,seen,candidates,lid_model,score,score_low,score_high,score_before_language_id,before_low,before_high,prompts,undecided,incomplete,consistency,consistency_low,consistency_high
      bloom_560m & multi,bloom-560m,lora,multilingual,1,bn,0,all,lid.176.ftz,3,,,118.5,104,129,50,4,0,0.94,0.838,0.979
      bloom_560m & multi,bloom-560m,lora,multilingual,1,fr,1,all,lid.176.ftz,112,98,124.25,118.5,104,129,50,0,0,0.94,0.838,0.979
      bloom_560m & multi,bloom-560m,lora,multilingual,1,en,1,all,lid.176.ftz,112,98,124.25,118.5,104,129,50,0,0,0.94,0.838,0.979
      mono,bloom-560m,lora,monolingual,,en,1,all,lid.176.ftz,87,,,118.5,,,50,0,3,0.94,0.838,0.979"
    `);
    expect(robustnessAsCsv(report)).toMatchInlineSnapshot(`
      "system,candidates,lid_model,robustness,low,high
      bloom_560m & multi,all,lid.176.ftz,6.5,2.25,11
      mono,all,lid.176.ftz,0,,"
    `);
    expect(comparisonsAsCsv(report)).toMatchInlineSnapshot(`
      "system_a,system_b,language,candidates,difference,low,high,prompts,p,p_holm,method
      bloom_560m & multi,mono,en,all,-3.5,-9,1.5,47,0.0004,0.04,exact"
    `);
  });

  it("go into a folder together, the report as JSON among them", async () => {
    const folder = join(mkdtempSync(join(tmpdir(), "polypaca-scores-")), "deep");
    const responses = [response("a", "en", "1"), response("a", "en", "2", "?"), response("a", "en", "3", "fr: oui")];
    const paths = await writeScoreFiles({ report, responses }, folder);
    expect(readdirSync(folder).sort()).toEqual([
      "comparisons.csv",
      "languages.jsonl",
      "robustness.csv",
      "scores.csv",
      "scores.json",
      "scores.tex",
      "scores.txt",
    ]);
    expect(JSON.parse(readFileSync(paths[0]!, "utf8"))).toEqual(report);
    expect(readFileSync(join(folder, "scores.txt"), "utf8")).toBe(`${scoresAsText(report)}\n`);
    expect(readFileSync(join(folder, "languages.jsonl"), "utf8")).toBe(
      [
        '{"id":"1","language":"en","system":"a","detected":"en","probability":1,"match":true}\n',
        '{"id":"2","language":"en","system":"a","detected":null,"probability":0,"match":false}\n',
        '{"id":"3","language":"en","system":"a","detected":"fr","probability":1,"match":false}\n',
      ].join(""),
    );
  });
});

describe("escapeLatex", () => {
  it("prints every special character as itself, once", () => {
    expect(escapeLatex('a_b & 50% $x$ #1 {c} \\d ~e ^f <g> |h| "i"\nj')).toBe(
      "a\\_b \\& 50\\% \\$x\\$ \\#1 \\{c\\} \\textbackslash{}d \\textasciitilde{}e \\textasciicircum{}f \\textless{}g\\textgreater{} \\textbar{}h\\textbar{} \\textquotedbl{}i\\textquotedbl{} j",
    );
  });
});

describe("recordsAsCsv", () => {
  it("quotes what needs it, and leaves null empty", () => {
    expect(
      recordsAsCsv(
        ["a", "b"],
        [
          { a: 'x,"y"\n', b: null },
          { a: 1.5, b: "z" },
        ],
      ),
    ).toBe('a,b\n"x,""y""\n",\n1.5,z');
  });
});
