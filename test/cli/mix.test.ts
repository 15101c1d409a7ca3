import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compile, runCli } from "./run-cli.js";

const sample = join(import.meta.dirname, "../../experiments/sample");
let base: string;
let outs = 0;

beforeAll(() => {
  compile();
  base = mkdtempSync(join(tmpdir(), "polypaca-mix-"));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

/** A data folder with the sample's English, and other files given by name. */
function dataFolder(files: Readonly<Record<string, string>>): string {
  const folder = join(base, `data-${outs++}`);
  mkdirSync(folder);
  copyFileSync(join(sample, "alpaca.en.json"), join(folder, "alpaca.en.json"));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  return folder;
}

const fresh = (): string => join(base, `out-${outs++}`);
const ofSample = ["--data-dir", sample];
const downsampled = ["--condition", "downsampled", ...ofSample];

describe("polypaca mix", () => {
  it("gives its result as one JSON object, on threads as on one, and train reads the file", () => {
    const out = fresh();
    const flags = [...downsampled, "--langs", "zh,en,fi", "--budget", "tokens", "--tokenizer", sample, "--seed", "5"];
    const { exitCode, stdout, stderr } = runCli(["mix", ...flags, "--out", out, "--json"]);
    expect(exitCode, stderr).toBe(0);
    expect(stdout.trimEnd()).not.toContain("\n");
    const result = JSON.parse(stdout) as { files: { file: string; tokens: number; sha256: string }[] };
    expect(result).toMatchObject({
      condition: "downsampled",
      sampling: "random",
      files: [
        {
          file: join(out, "downsampled.jsonl"),
          records: expect.any(Number),
          tokens: expect.any(Number),
          flops: null,
          perLanguage: { fi: { records: expect.any(Number) } },
        },
      ],
      cost: { examples: expect.any(Number), tokens: result.files[0]!.tokens, flops: null },
    });
    expect(readdirSync(out).sort()).toEqual(["downsampled.jsonl", "manifest.json"]);
    const shape = ["--arch", "bloom", "--hidden", "32", "--layers", "1", "--heads", "2", "--tokenizer", join(sample, "tokenizer.json")];
    const model = fresh();
    expect(runCli(["init-model", ...shape, "--out", model]).exitCode).toBe(0);
    const train = [
      "--model",
      model,
      "--data",
      result.files[0]!.file,
      "--method",
      "lora",
      "--out",
      fresh(),
      "--validation-size",
      "4",
      "--dry-run",
    ];
    const preview = runCli(["train", ...train, "--warmup-steps", "0", "--max-steps", "2", "--json"]);
    expect(preview.exitCode, preview.stderr).toBe(0);
    const { languages } = JSON.parse(preview.stdout) as { languages: Record<string, { tokens: number }> };
    expect(Object.values(languages).reduce((sum, { tokens }) => sum + tokens, 0)).toBe(result.files[0]!.tokens);
  });

  it("prints the data by language, the files, and the cost against C", () => {
    const { exitCode, stdout } = runCli(["mix", ...downsampled, "--tokenizer", sample, "--sampling", "disjoint", "--out", fresh()]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^data +records +share +tokens +share +mean +x English +text alone +cut$/m);
    expect(stdout).toMatch(/^ru +60 +11\.1% /m);
    expect(stdout).toMatch(/^N x C, N = 9 +540 +/m);
    expect(stdout).toMatch(/^downsampled costs 1\.000 C in examples, [\d.]+ C in tokens$/m);
    expect(stdout).toMatch(/disjoint sampling, seed 42/);
  });

  it.each<[string, readonly string[], number, RegExp]>([
    ["a language that is not there", ["--langs", "en,xx"], 2, /^NOT_FOUND: --langs xx: .*alpaca\.xx\.json.*Languages there: bg, cs/m],
    ["a language that is no code", ["--langs", "English"], 2, /^USAGE: --langs English: a language code/m],
    ["a language named twice", ["--langs", "en,en"], 2, /^USAGE: .*en is named twice/m],
    ["size zero", ["--size", "0"], 2, /^USAGE: --size 0: expected a number, at least 1/m],
    ["a size that is no whole number", ["--size", "1.5"], 2, /^USAGE: --size 1.5: expected a whole number of examples/m],
    ["zero per language", ["--per-language", "0"], 2, /^USAGE: --per-language 0/m],
    ["a size larger than the data", ["--size", "541"], 2, /^USAGE: --size 541: larger than the data has \(540 examples\)/m],
    ["more than the seed records, each once", ["--size", "61", "--sampling", "disjoint"], 2, /^USAGE: --size 61: .*60 seed records/m],
    ["more per language than there is", ["--per-language", "61"], 2, /^USAGE: --per-language 61: larger than the data of bg 60, cs 60/m],
    [
      "less than a record",
      ["--size", "3", "--budget", "tokens", "--tokenizer", sample],
      2,
      /^USAGE: --size 3: the first record drawn costs more/m,
    ],
    ["tokens without a tokenizer", ["--budget", "tokens"], 2, /^USAGE: --budget tokens: which tokens\? .*--tokenizer/m],
    ["FLOPs without a model", ["--budget", "flops"], 2, /^USAGE: --budget flops: .*--model/m],
    ["FLOPs with a tokenizer alone", ["--budget", "flops", "--tokenizer", sample], 2, /^USAGE: --budget flops: .*--model/m],
    ["an unknown unit", ["--budget", "words"], 2, /^USAGE: --budget words: expected examples or tokens or flops/m],
    ["a tokenizer that is none", ["--tokenizer", "/"], 2, /^NOT_FOUND: .*tokenizer\.json/m],
    ["a model that is none", ["--tokenizer", sample, "--model", sample], 2, /^NOT_FOUND: .*config\.json/m],
    ["two sizes", ["--size", "9", "--per-language", "1"], 2, /^USAGE: --size 9 and --per-language 1 both/m],
    [
      "a plain random sample of so much per language",
      ["--sampling", "random", "--per-language", "1"],
      2,
      /^USAGE: --sampling random and --per-language/m,
    ],
    ["--match-budget where the budget is kept anyway", ["--match-budget"], 2, /^USAGE: --match-budget: only --condition english/m],
    ["a cutoff without tokens", ["--cutoff", "9"], 2, /^USAGE: --cutoff: without --tokenizer or --model/m],
    ["a LoRA rank with FFT", ["--lora-rank", "4", "--method", "fft", "--model", sample], 2, /^USAGE: --lora-rank: only counts/m],
    ["--allow-missing where nothing is refused", ["--allow-missing"], 2, /^USAGE: --allow-missing/m],
    ["a negative seed", ["--seed", "-1"], 2, /^USAGE: --seed -1/m],
    ["an unknown flag", ["--sise", "9"], 2, /^USAGE: unknown option '--sise'.*--size/m],
  ])("refuses %s, and writes nothing", (_, flags, exitCode, message) => {
    const out = fresh();
    const result = runCli(["mix", ...downsampled, "--out", out, ...flags]);
    expect(result.stderr).toMatch(message);
    expect(result).toMatchObject({ exitCode, stdout: "" });
    expect(existsSync(out)).toBe(false);
  });

  it.each<[string, string, readonly string[], RegExp]>([
    ["a size", "multilingual", ["--size", "9"], /^USAGE: --size 9: multilingual takes all of the data/m],
    ["a sampling", "english", ["--sampling", "stratified"], /^USAGE: --sampling stratified: only --condition downsampled/m],
    ["no English", "english", ["--langs", "fi,fr"], /^USAGE: --condition english: English \(en\) is not among the languages \(fi,fr\)/m],
    [
      "more than English has",
      "english",
      ["--size", "61"],
      /^USAGE: --size 61: larger than the English data \(60 examples\).*--match-budget/m,
    ],
    ["English a million times", "english", ["--size", "60000000", "--match-budget"], /^USAGE: .*repeated 1000000 times/m],
  ])("refuses %s with %s", (_, condition, flags, message) => {
    const result = runCli(["mix", "--condition", condition, ...ofSample, "--out", fresh(), ...flags]);
    expect(result.stderr).toMatch(message);
    expect(result.exitCode).toBe(2);
  });

  it("refuses an unknown condition, and a missing one", () => {
    expect(runCli(["mix", ...ofSample, "--out", fresh(), "--condition", "bilingual"])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining("--condition bilingual: expected monolingual or multilingual"),
    });
    expect(runCli(["mix", ...ofSample, "--out", fresh()])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("--condition") });
  });

  it("refuses a data folder that is missing or holds no data", () => {
    const nowhere = ["mix", "--condition", "multilingual", "--out", fresh(), "--data-dir"];
    expect(runCli([...nowhere, join(base, "nowhere")])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^NOT_FOUND: .*no such folder/),
    });
    expect(runCli([...nowhere, base])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("holds no alpaca.<lang>.json") });
  });

  it.each<[string, string, RegExp]>([
    [
      "a record that lacks a field",
      '[\n{"instruction": "a", "output": "b"},\n{"instruction": "c"}]',
      /^BAD_RECORD: .*alpaca\.fi\.json line 3, column 1: the field "output" is missing/m,
    ],
    [
      "a line that is no JSON",
      '{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d""}\n',
      /^BAD_RECORD: .*alpaca\.fi\.json line 2, column 35: not valid JSON \(a second closing quote\)/m,
    ],
    ["an empty file", "", /^BAD_DATA: .*alpaca\.fi\.json: the file is empty/m],
    [
      "a record of another language",
      '[{"instruction": "a", "output": "b", "language": "sv"}]',
      /^BAD_DATA: .*alpaca\.fi\.json line 1: .*"sv"/m,
    ],
  ])("names file and line of %s, read on a thread", (_, content, message) => {
    const out = fresh();
    const result = runCli(["mix", "--condition", "multilingual", "--data-dir", dataFolder({ "alpaca.fi.json": content }), "--out", out]);
    expect(result.stderr).toMatch(message);
    expect(result.exitCode).toBe(2);
    expect(existsSync(out)).toBe(false);
  });

  it("refuses an output folder that holds something, is a file or cannot be made", () => {
    const filled = dataFolder({});
    expect(runCli(["mix", ...downsampled, "--out", filled])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^USAGE: --out .*not empty/),
    });
    const file = join(filled, "alpaca.en.json");
    expect(runCli(["mix", ...downsampled, "--out", file])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^USAGE: --out .*is a file/),
    });
    expect(runCli(["mix", ...downsampled, "--out", join(file, "out")])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^USAGE: --out .*is a file/),
    });
    const unwritable = runCli(["mix", ...downsampled, "--out", "/proc/1/out"]);
    expect(unwritable).toMatchObject({
      exitCode: expect.toSatisfy((code) => code === 1 || code === 2),
      stderr: expect.stringContaining("/proc/1/out"),
    });
  });

  it("takes an empty folder, and reports what does not fit together on stderr", () => {
    const records = JSON.parse(readFileSync(join(sample, "alpaca.fi.json"), "utf8")) as { id: string; input: string }[];
    records[1]!.id = records[0]!.id;
    records[2]!.input = records[2]!.input === "" ? "something" : "";
    const dataDir = dataFolder({ "alpaca.fi.json": JSON.stringify(records) });
    const out = fresh();
    mkdirSync(out);
    const flags = ["--condition", "downsampled", "--data-dir", dataDir];
    const { exitCode, stdout, stderr } = runCli(["mix", ...flags, "--out", out, "--json"]);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/alpaca\.fi\.json: 1 of 60 records has the id of an earlier one: "sample-001" again in line 1/);
    expect(stderr).toMatch(/alpaca\.fi\.json: 1 record has an input where en has none, or the reverse.*"sample-003"/);
    const kinds = (JSON.parse(stdout) as { findings: { kind: string }[] }).findings.map(({ kind }) => kind);
    expect(kinds.sort()).toEqual(["alone", "duplicate", "misaligned"]);
    expect(runCli(["mix", ...flags, "--sampling", "disjoint", "--out", fresh()])).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/^BAD_DATA: --sampling disjoint[\s\S]*an id of its own/m),
    });
  });
});
