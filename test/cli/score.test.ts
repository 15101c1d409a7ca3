import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { ScoreReport } from "../../src/evaluate/score.js";
import { sparseModel } from "../language-id/sparse-model.js";
import { compile, runCli } from "./run-cli.js";

const folder = mkdtempSync(join(tmpdir(), "polypaca-score-"));

function write(name: string, rows: readonly unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => (typeof row === "string" ? `${row}\n` : `${JSON.stringify(row)}\n`)).join(""));
  return path;
}

const texts = {
  en: "Alpacas are animals that live in the mountains of South America.",
  fr: "Les alpagas sont des animaux qui vivent dans les montagnes d'Amérique du Sud.",
  none: "42",
} as const;

const response = (id: number, language: string, response: string, system = "multi") => ({
  ...{ id, language, system, model: "m", method: "lora", condition: "multilingual", seed: 1, prompt: "?", response, tokens: 9 },
  finishReason: "stop",
});
const judgement = (id: number, language: string, rating: number | null, system = "multi") => ({
  ...{ id, language, system, judge: "j", rating, explanation: "", raw: "" },
});

// Prompts 1 to 3, and the same again as 4 to 6.
const responses = [0, 3].flatMap((more) => [
  ...[response(1 + more, "en", texts.en), response(2 + more, "en", texts.fr), response(3 + more, "en", texts.none)],
  ...[response(1 + more, "fr", texts.fr), response(2 + more, "fr", texts.fr), response(3 + more, "fr", texts.en)],
]);
const judgements = [0, 3].flatMap((more) => [
  ...[judgement(1 + more, "en", 3), judgement(2 + more, "en", 2), judgement(3 + more, "en", 1)],
  ...[judgement(1 + more, "fr", 3), judgement(2 + more, "fr", 2), judgement(3 + more, "fr", 2)],
]);

let responsesFile: string;
let judgementsFile: string;

beforeAll(() => {
  compile();
  responsesFile = write("responses.jsonl", responses);
  judgementsFile = write("judgements.jsonl", judgements);
});

function score(...flags: readonly string[]) {
  return runCli(["score", "--responses", responsesFile, "--judgements", judgementsFile, "--resamples", "200", ...flags]);
}

describe("polypaca score", () => {
  it("identifies, scores and prints JSON with the documented fields", () => {
    const { exitCode, stdout, stderr } = score("--json");
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const report = JSON.parse(stdout) as ScoreReport;
    expect(report.languageId).toEqual({ model: "lid.176.ftz", candidates: "all" });
    const interval = [expect.any(Number), expect.any(Number)];
    expect(report.systems).toMatchObject([
      {
        ...{ system: "multi", robustness: 5 }, // (12 - 6 + 14 - 10) / 2
        languages: {
          en: { score: 6, scoreBeforeLanguageId: 12, prompts: 6, undecided: 2, incomplete: 0, consistency: 1 / 3, interval },
          fr: { score: 10, scoreBeforeLanguageId: 14, prompts: 6, undecided: 0, incomplete: 0, consistency: 2 / 3, interval },
        },
      },
    ]);
  });

  it("stores the other rule with every score, and prints it with every table", () => {
    const { systems } = JSON.parse(score("--candidates", "expected", "--json").stdout) as ScoreReport;
    expect(systems[0]!.languages.en!.candidates).toBe("expected");
    expect(score("--candidates", "expected").stdout.match(/candidates expected/g)).toHaveLength(3);
    expect(score("--format", "csv", "--candidates", "expected").stdout).toMatch(
      /\nmulti,m,lora,multilingual,1,en,1,expected,lid\.176\.ftz,6,/,
    );
    expect(score("--format", "latex").stdout).toMatch(/^\\begin\{table\}\n/);
  });

  it("writes its files into --out", () => {
    const out = join(folder, "tables");
    expect(score("--out", out)).toMatchObject({ exitCode: 0, stderr: expect.stringContaining(`wrote ${join(out, "scores.json")}\n`) });
    expect(readFileSync(join(out, "scores.csv"), "utf8")).toContain("multi,m,lora,");
  });

  it("gives the same bytes for the same seed, others for another", () => {
    expect(score("--json").stdout).toBe(score("--json").stdout);
    expect(score("--json", "--seed", "9").stdout).not.toBe(score("--json").stdout);
  });

  it("exits with 1 at an unparsable judgement, the result printed and the cell named, unless --allow-incomplete", () => {
    const judged = write("unparsable.jsonl", [...judgements.slice(0, -1), judgement(6, "fr", null)]);
    const args = ["score", "--responses", responsesFile, "--judgements", judged, "--resamples", "200", "--json"];
    const { exitCode, stdout, stderr } = runCli(args);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^incomplete: multi, fr: 5 of 6 prompts have a response and a judgement\nJudge what is missing/);
    expect((JSON.parse(stdout) as ScoreReport).systems[0]!.languages.fr).toMatchObject({ score: 10, incomplete: 1, interval: null });
    expect(runCli([...args, "--allow-incomplete"])).toMatchObject({ exitCode: 0, stdout });
  });

  it("reads the study's files, judged under the ids of their prompts", () => {
    const prompts = write("test_en.jsonl", [{ id: "q1", prompt: "What is an alpaca?" }]);
    const lora = write("test-en_decoded_by_bloom-multi.jsonl", [{ instruction: "What is an alpaca?", input: null, response: texts.en }]);
    const judged = write("study.jsonl", [{ id: "q1", language: "en", system: "bloom-multi", judge: "j", rating: 3 }]);
    const args = ["score", "--responses", lora, "--judgements", judged, "--prompts", prompts, "--json"];
    expect(JSON.parse(runCli(args).stdout)).toMatchObject({
      systems: [{ system: "bloom-multi", languages: { en: { score: 3, prompts: 1 } } }],
    });
  });
});

describe("polypaca score refuses, before it loads anything,", () => {
  const refused = (args: readonly string[], stderr: RegExp): void => {
    expect(runCli(["score", ...args])).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringMatching(stderr) });
  };
  const with_ = (responsesPath: string, judgementsPath: string, ...flags: string[]): string[] => [
    ...["--responses", responsesPath, "--judgements", judgementsPath],
    ...flags,
  ];

  it("files that are missing or empty", () => {
    refused(with_(join(folder, "nowhere.jsonl"), judgementsFile), /^NOT_FOUND: .*nowhere\.jsonl/);
    refused(with_(responsesFile, write("empty.jsonl", [])), /^BAD_DATA: .*empty\.jsonl: the file is empty/);
    refused(["--responses", responsesFile], /^USAGE: .*--judgements <FILE\.\.\.>/);
  });

  it("a malformed line, by file, line and column", () => {
    refused(
      with_(write("broken.jsonl", [responses[0], '{"id": 2 "x"}']), judgementsFile),
      /^BAD_RECORD: .*broken\.jsonl line 2, column 10: not valid JSON/,
    );
    refused(with_(responsesFile, write("cut.jsonl", [judgements[0], '{"id": 2,'])), /^BAD_RECORD: .*cut\.jsonl line 2, /);
  });

  it("malformed prompts, whose cell would look complete without them", () => {
    const prompts = write("test_hi.jsonl", [{ id: 1, prompt: "a" }, '{"id": 2, "prompt": "b""}']);
    refused(
      with_(responsesFile, judgementsFile, "--prompts", prompts),
      /^BAD_RECORD: .*test_hi\.jsonl line 2, column \d+: .*Correct it: scores are of all prompts\.\n$/,
    );
  });

  it("the same key twice, naming both lines", () => {
    refused(
      with_(write("twice.jsonl", [...responses, responses[0]]), judgementsFile),
      /^BAD_RECORD: .*twice\.jsonl line 13, .*id "1" was there already \(.*twice\.jsonl line 1\)/,
    );
    refused(
      with_(responsesFile, write("twice-judged.jsonl", [...judgements, judgements[1]])),
      /^BAD_RECORD: .*line 13, .*repeat 0 of .*\n.*"repeat"/,
    );
  });

  it("two systems under one name", () => {
    const other = { ...response(7, "fr", texts.fr), condition: "english" };
    refused(
      with_(write("mixed.jsonl", [...responses, other]), judgementsFile),
      /^BAD_RECORD: .*line 13, .*condition "english", but "multilingual" in .*line 1\n/,
    );
  });

  it("judgements without their responses, and files without overlap", () => {
    refused(
      with_(responsesFile, write("orphan.jsonl", [...judgements, judgement(9, "fr", 3)])),
      /^BAD_RECORD: .*orphan\.jsonl line 13, .*without its response/,
    );
    refused(with_(responsesFile, write("other.jsonl", [judgement(1, "en", 3, "else")])), /^BAD_DATA: no judgement belongs to a response/);
  });

  it("unknown languages", () => {
    refused(
      with_(write("unknown.jsonl", [response(1, "qq", texts.en)]), write("of-unknown.jsonl", [judgement(1, "qq", 3)])),
      /^BAD_RECORD: .*unknown\.jsonl line 1, .*does not know the language "qq"/,
    );
  });

  it("unknown flag values", () => {
    refused(with_(responsesFile, judgementsFile, "--candidates", "some"), /^USAGE: --candidates some: expected all or expected/);
    refused(with_(responsesFile, judgementsFile, "--resamples", "10"), /^USAGE: --resamples 10: /);
    refused(with_(responsesFile, judgementsFile, "--compare", "best"), /^USAGE: --compare best: expected conditions or all or none/);
    refused(with_(responsesFile, judgementsFile, "--baseline", "mutli"), /^USAGE: --baseline mutli: there is no such system, only "multi"/);
    refused(with_(responsesFile, judgementsFile, "--seen-langs", "English"), /^USAGE: --seen-langs English/);
    refused(with_(responsesFile, judgementsFile, "--format", "csv", "--json"), /^USAGE: .*--format.*--json/);
    refused(with_(responsesFile, judgementsFile, "--lid-model", responsesFile), /^BAD_CHECKPOINT: .*not a fastText model/);
  });

  it("a model that WebAssembly cannot hold where the addon is not there, with what it holds and what to install", async () => {
    const model = await sparseModel(join(folder, "openlid.bin"), 1_200_000_000);
    const args = ["score", ...with_(responsesFile, judgementsFile, "--lid-model", model)];
    expect(runCli(args, { POLYPACA_ADDON: join(folder, "no-addon.node") })).toMatchObject({
      ...{ exitCode: 2, stdout: "" },
      stderr: expect.stringMatching(
        /^UNSUPPORTED: .*openlid\.bin: has 1200 MB; fastText's WebAssembly build holds up to \d+ MB, and the native addon .* is not built.*fasttext quantize/,
      ),
    });
  });
});
