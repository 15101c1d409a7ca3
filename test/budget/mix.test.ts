import { existsSync } from "node:fs";
import { appendFile, copyFile, mkdir, readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readLanguage } from "../../src/budget/language-data.js";
import { mix } from "../../src/budget/mix.js";
import type { MixResult } from "../../src/budget/mix-report.js";
import type { MixSettings } from "../../src/budget/mix-settings.js";
import { lineOrder, writeTrainingFile } from "../../src/budget/training-file.js";
import { readModelConfig } from "../../src/checkpoint/hf-folder.js";
import { alpacaTemplates, prepareExamples, readAlpaca } from "../../src/data/index.js";
import { decoderSpecFromConfig } from "../../src/families/index.js";
import { studyLoraTargets } from "../../src/families/parameters.js";
import { flopsPerToken } from "../../src/families/work.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { realDataDir, sampleDir, temporaryFolder } from "../data/data-folder.js";
import { realTokenizerDir } from "../tokenizer/model-folder.js";
import { dataFolder, linesOf, modelWithoutWeights, type SampleRecord, sampleRecords } from "./mix-folder.js";

const all = ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"];

type Some = Partial<MixSettings> & Pick<MixSettings, "condition">;

/** Mixes the bundled sample into a folder of its own, unless settings say otherwise. */
async function mixed(settings: Some, notes: string[] = [], cacheDir: string | null = null): Promise<MixResult> {
  const out = join(await temporaryFolder(), "out");
  return mix({ dataDir: sampleDir, out, ...settings }, { note: (line) => notes.push(line), cacheDir });
}

async function only(result: MixResult): Promise<string> {
  expect(result.files).toHaveLength(1);
  return readFile(result.files[0]!.file, "utf8");
}

describe("the four conditions on the sample, 60 records in each of 9 languages", () => {
  it("monolingual is a file per language, in the order of its source, with language and id", async () => {
    const result = await mixed({ condition: "monolingual" });
    expect(result.files.map(({ file }) => file.slice(result.out.length + 1))).toEqual(all.map((code) => `${code}.jsonl`));
    expect(result.cost).toEqual({ examples: 540, tokens: null, flops: null });
    expect(result.budget).toMatchObject({ languages: 9, total: { examples: 540 }, perLanguage: { examples: 60 }, target: null });
    for (const [i, lang] of all.entries()) {
      const records = await sampleRecords(lang);
      expect(await linesOf(result.files[i]!.file)).toEqual(records.map(({ id, ...texts }) => ({ id, lang, ...texts })));
    }
  });

  it("multilingual is the same lines merged and shuffled", async () => {
    const monolingual = await mixed({ condition: "monolingual" });
    const parts = await Promise.all(monolingual.files.map(({ file }) => readFile(file, "utf8")));
    const merged = await only(await mixed({ condition: "multilingual" }));
    expect(merged.split("\n").sort()).toEqual(parts.join("").split("\n").sort());
    const languages = (await linesOf((await mixed({ condition: "multilingual" })).files[0]!.file)).map(({ lang }) => lang);
    // In 540 shuffled lines, neighbours of one language are hypergeometric too: 59 of 539 on average, five deviations are 36.
    const repeats = languages.filter((lang, i) => lang === languages[i + 1]).length;
    expect(Math.abs(repeats - 59)).toBeLessThan(36);
  });

  it("english is monolingual's English file, byte for byte, whole or with so much per language", async () => {
    for (const more of [{}, { perLanguage: 7 }, { perLanguage: 900, budget: "tokens", tokenizer: sampleDir }] as const) {
      const english = await mixed({ condition: "english", ...more });
      const monolingual = await mixed({ condition: "monolingual", ...more });
      expect(await only(english)).toBe(await readFile(join(monolingual.out, "en.jsonl"), "utf8"));
      expect(english.budget.total).toEqual(monolingual.budget.total);
    }
  });

  it("downsampled is C records of the merged data, none twice", async () => {
    const result = await mixed({ condition: "downsampled" });
    const lines = await linesOf(result.files[0]!.file);
    expect(lines).toHaveLength(60);
    expect(new Set(lines.map(({ lang, id }) => `${lang} ${id}`)).size).toBe(60);
    expect(result.budget).toMatchObject({ target: 60, short: 0, costOverC: { examples: 1 } });
    for (const [code, { records }] of Object.entries(result.files[0]!.perLanguage))
      expect(lines.filter(({ lang }) => lang === code)).toHaveLength(records);
  });

  it("1 and 2 cost N x C and fill it exactly in every unit", async () => {
    const model = await modelWithoutWeights();
    for (const condition of ["monolingual", "multilingual"] as const) {
      const { cost, budget } = await mixed({ condition, budget: "flops", model });
      expect(cost).toEqual(budget.total);
      expect(budget.costOverC.flops).toBeCloseTo(9, 12);
    }
  });

  it("same seed, same bytes: wherever the data lies and in whatever order languages are named; the hashes never change", async () => {
    const elsewhere = join(await temporaryFolder(), "elsewhere");
    await mkdir(elsewhere);
    for (const code of all) await copyFile(join(sampleDir, `alpaca.${code}.json`), join(elsewhere, `alpaca.${code}.json`));
    const hashes: string[] = [];
    for (const settings of [
      { condition: "multilingual" },
      { condition: "downsampled" },
      { condition: "downsampled", seed: 7, sampling: "stratified", budget: "tokens", tokenizer: sampleDir },
      { condition: "downsampled", seed: 7, sampling: "disjoint", budget: "tokens", tokenizer: sampleDir },
    ] as const) {
      const here = await mixed(settings);
      const there = await mixed({ ...settings, dataDir: elsewhere, languages: all.toReversed() });
      for (const name of await readdir(here.out))
        expect(await readFile(join(there.out, name), "utf8")).toBe(await readFile(join(here.out, name), "utf8"));
      hashes.push(here.files[0]!.sha256.slice(0, 16));
    }
    expect(hashes).toMatchInlineSnapshot(`
      [
        "e507f335561e1f5b",
        "ac03808c32f1d519",
        "d29801eb0b051a51",
        "549a5c9c9288a5fe",
      ]
    `);
  });
});

describe("budgets", () => {
  it.each(["lora", "fft"] as const)("tokens and FLOPs of a file are those that train has, with %s", async (method) => {
    const model = await modelWithoutWeights();
    const cutoff = 110; // some of the records are longer
    const result = await mixed({ condition: "downsampled", budget: "flops", model, method, cutoff });
    const [file] = result.files;
    const tokenizer = await loadTokenizer(model);
    const trainOn = method === "lora" ? "prompt+response" : "response";
    const settings = { tokenizer, template: alpacaTemplates[method], cutoff, trainOn, maxEmptyShare: 1 } as const;
    const { examples, languages, withoutTarget } = await prepareExamples([file!.file], settings);
    const everything = [...examples, ...withoutTarget];
    expect(everything.reduce((sum, { inputIds }) => sum + inputIds.length, 0)).toBe(file!.tokens);
    expect([...languages.keys()].sort()).toEqual(Object.keys(file!.perLanguage));
    const spec = decoderSpecFromConfig(await readModelConfig(model), model);
    const flops = everything.reduce((sum, { inputIds: { length }, targetTokens }) => {
      const shape = { meanAttendedLength: (length + 1) / 2, scoredShare: targetTokens / length };
      return sum + length * flopsPerToken(spec, { method, rank: 8, targets: studyLoraTargets(spec), ...shape });
    }, 0);
    expect(file!.flops! / flops).toBeCloseTo(1, 12);
    const truncated = Object.values(result.languages).reduce((sum, language) => sum + language.truncated!, 0);
    expect(truncated).toBeGreaterThan(0);
  });

  it("downsampled is short of C by less than a record in every unit and every way of sampling", async () => {
    const model = await modelWithoutWeights();
    const cacheDir = await temporaryFolder();
    for (const budget of ["examples", "tokens", "flops"] as const) {
      const longest = await longestRecord(model, budget);
      for (const sampling of ["random", "stratified", "disjoint"] as const) {
        for (const seed of [0, 1, 2]) {
          const result = await mixed({ condition: "downsampled", budget, model, sampling, seed }, [], cacheDir);
          const { short, target, perLanguage } = result.budget;
          expect(target).toBe(Math.floor(perLanguage[budget]!));
          expect(short).toBeGreaterThanOrEqual(0);
          expect(short).toBeLessThan(longest);
          expect(result.cost[budget]).toBe(target! - short!);
        }
      }
    }
  });

  it("so much per language gives each that much, the same records in all languages outside of downsampled", async () => {
    const multilingual = await linesOf((await mixed({ condition: "multilingual", perLanguage: 5 })).files[0]!.file);
    const ids = all.map((code) => multilingual.filter(({ lang }) => lang === code).map(({ id }) => id));
    expect(new Set(ids[0]).size).toBe(5);
    for (const of of ids) expect(of.toSorted()).toEqual(ids[0]!.toSorted());
    const result = await mixed({ condition: "downsampled", perLanguage: 5 });
    expect(result).toMatchObject({ sampling: "stratified", cost: { examples: 45 }, budget: { target: 45, short: 0 } });
    expect(Object.values(result.files[0]!.perLanguage).map(({ records }) => records)).toEqual(all.map(() => 5));
  });

  it("--match-budget trims English to C, or repeats it", async () => {
    const en = (await sampleRecords("en")).map((record) => ({ ...record, output: record.output.repeat(2) }));
    const settings = { condition: "english", matchBudget: true, budget: "tokens", tokenizer: sampleDir, cutoff: 2000 } as const;
    const trimmed = await mixed({ ...settings, dataDir: await dataFolder({ en, fr: (await sampleRecords("fr")).slice(0, 30) }) });
    expect(trimmed.files[0]!.records).toBeLessThan(60);
    expect(trimmed.budget.short).toBeLessThan(600);
    expect(trimmed.budget.costOverC.tokens).toBeGreaterThan(0.9);
    expect(trimmed.budget.costOverC.tokens).toBeLessThanOrEqual(1);
    const long = (await sampleRecords("fr")).map((record) => ({ ...record, output: record.output.repeat(5) }));
    const repeated = await mixed({ ...settings, dataDir: await dataFolder({ en, fr: long }) });
    const ids = (await linesOf(repeated.files[0]!.file)).map(({ id }) => id);
    expect(ids.slice(0, 60)).toEqual(en.map(({ id }) => id));
    expect(ids.length).toBeGreaterThan(60);
    expect(ids.length).toBeLessThan(240);
    expect(repeated.budget.short).toBeLessThan(600);
    const whole = await mixed({ ...settings, matchBudget: false, dataDir: await dataFolder({ en, fr: long }) });
    expect(whole.files[0]!.records).toBe(60);
    expect(whole.budget.costOverC.tokens).toBeLessThan(1);
  });

  it("shows that the same text costs more in other scripts: of a tokenizer of bytes, Russian nearly twice English", async () => {
    const { languages } = await mixed({ condition: "multilingual", tokenizer: await byteTokenizer(), cutoff: 5000 });
    expect(languages.en).toMatchObject({ relativeToEnglish: 1, textRelativeToEnglish: 1 });
    for (const code of ["bg", "ru"]) expect(languages[code]!.textRelativeToEnglish).toBeGreaterThan(1.7);
    expect(languages.es!.textRelativeToEnglish).toBeLessThan(1.2);
    // The prompt template is English in every record, so of whole records the ratio is smaller.
    expect(languages.ru!.relativeToEnglish).toBeGreaterThan(1.3);
    expect(languages.ru!.relativeToEnglish).toBeLessThan(languages.ru!.textRelativeToEnglish!);
  });

  it("with Pythia's tokenizer Bulgarian and Russian texts cost more than twice English", async ({ skip }) => {
    const file = join(realTokenizerDir, "gpt_neox.tokenizer.json");
    if (!existsSync(file)) skip("../shared/tokenizers/gpt_neox.tokenizer.json is not there");
    const tokenizer = await temporaryFolder();
    await copyFile(file, join(tokenizer, "tokenizer.json"));
    const { languages } = await mixed({ condition: "multilingual", tokenizer, cutoff: 2000 });
    for (const code of ["bg", "ru"]) expect(languages[code]!.textRelativeToEnglish).toBeGreaterThan(2);
  });
});

/** The dearest record of the sample. */
async function longestRecord(model: string, budget: "examples" | "tokens" | "flops"): Promise<number> {
  if (budget === "examples") return 1;
  const settings = {
    template: alpacaTemplates.lora,
    cutoff: 512,
    trainOn: "prompt+response",
    tokenizer: await loadTokenizer(model),
  } as const;
  const { examples } = await prepareExamples(
    all.map((code) => join(sampleDir, `alpaca.${code}.json`)),
    settings,
  );
  const tokens = Math.max(...examples.map(({ inputIds }) => inputIds.length));
  if (budget === "tokens") return tokens;
  const spec = decoderSpecFromConfig(await readModelConfig(model), model);
  const work = { method: "lora", rank: 8, targets: studyLoraTargets(spec), meanAttendedLength: (tokens + 1) / 2 } as const;
  return tokens * flopsPerToken(spec, work);
}

/** The sample's tokenizer without merges: a token per byte. */
async function byteTokenizer(): Promise<string> {
  const folder = await temporaryFolder();
  const file = JSON.parse(await readFile(join(sampleDir, "tokenizer.json"), "utf8")) as { model: { merges: unknown[] } };
  file.model.merges = [];
  await writeFile(join(folder, "tokenizer.json"), JSON.stringify(file));
  await copyFile(join(sampleDir, "tokenizer_config.json"), join(folder, "tokenizer_config.json"));
  return folder;
}

describe("a change of one language's file", () => {
  it("changes only that language's lines of a stratified sample, and moves no other", async () => {
    const records = Object.fromEntries(
      await Promise.all(["en", "fi", "zh"].map(async (code) => [code, await sampleRecords(code)] as const)),
    );
    const changed = records.fi!.map((record) => ({ ...record, output: record.output.toUpperCase() }));
    const settings = { condition: "downsampled", sampling: "stratified" } as const;
    const before = await linesOf((await mixed({ ...settings, dataDir: await dataFolder(records) })).files[0]!.file);
    const after = await linesOf((await mixed({ ...settings, dataDir: await dataFolder({ ...records, fi: changed }) })).files[0]!.file);
    expect(after.map(({ lang, id }) => [lang, id])).toEqual(before.map(({ lang, id }) => [lang, id]));
    for (const [i, line] of after.entries())
      expect(line.output).toBe(line.lang === "fi" ? before[i]!.output.toUpperCase() : before[i]!.output);
  });

  it("also when it has more records now: the others keep their lines and their order", async () => {
    const [en, fi] = [await sampleRecords("en"), await sampleRecords("fi")];
    const more = [...fi, ...fi.map((record) => ({ ...record, id: `${record.id} again` }))];
    const settings = { condition: "downsampled", sampling: "stratified" } as const;
    const englishOf = async (dataDir: string): Promise<string[]> => {
      const lines = await linesOf((await mixed({ ...settings, dataDir })).files[0]!.file);
      return lines.filter(({ lang }) => lang === "en").map(({ id }) => String(id));
    };
    expect(await englishOf(await dataFolder({ en, fi: more }))).toEqual(await englishOf(await dataFolder({ en, fi })));
  });
});

describe("records", () => {
  const record = (more: object): SampleRecord => ({ instruction: "Do it.", input: "", output: "Done.", ...more });

  it("keep a number as an id, go by their place without one, and get an input where they have none", async () => {
    const text =
      '{"id": 7, "instruction": "a", "output": "b"}\n{"id": null, "instruction": "c", "input": null, "output": "d \\ud83e\\udd99"}\n';
    const result = await mixed({ condition: "monolingual", dataDir: await dataFolder({ fi: text }) });
    expect(await linesOf(result.files[0]!.file)).toEqual([
      { id: 7, lang: "fi", instruction: "a", input: "", output: "b" },
      { id: 1, lang: "fi", instruction: "c", input: "", output: "d 🦙" },
    ]);
  });

  it("may be written in any style: fields in another order or twice, escapes, space, fields of no use", async () => {
    const text = `[ { "output" : "caf\\u00e9" ,\n "extra": {"input": ["}"]}, "input": "first", "instruction": "\\"a\\"", "input": "x\\n" } ]`;
    const result = await mixed({ condition: "monolingual", dataDir: await dataFolder({ fi: text }) });
    expect(await linesOf(result.files[0]!.file)).toEqual([{ id: 0, lang: "fi", instruction: '"a"', input: "x\n", output: "café" }]);
  });

  it("are read by train's reader as they were, with language and id", async () => {
    const { files } = await mixed({ condition: "downsampled" });
    const { records } = await readAlpaca(files[0]!.file);
    const lines = await linesOf(files[0]!.file);
    expect(records.map(({ id, language }) => [id, language])).toEqual(lines.map(({ id, lang }) => [id, lang]));
  });

  it("survive byte for byte from the real files", async ({ skip }) => {
    if (!existsSync(realDataDir)) skip("../shared/data is not there");
    const texts = await Promise.all(["en", "zh"].map((code) => readFile(join(realDataDir, `alpaca_${code}_demo.json`), "utf8")));
    const notes: string[] = [];
    const dataDir = await dataFolder({ en: texts[0]!, zh: texts[1]! });
    const result = await mixed({ condition: "multilingual", dataDir }, notes);
    const lines = await linesOf(result.files[0]!.file);
    expect(lines).toHaveLength(1999);
    for (const [i, code] of (["en", "zh"] as const).entries()) {
      const source = JSON.parse(texts[i]!) as SampleRecord[];
      const mine = lines.filter(({ lang }) => lang === code).sort((a, b) => Number(a.id) - Number(b.id));
      expect(mine).toEqual(source.map(({ instruction, input, output }, id) => ({ id, lang: code, instruction, input, output })));
    }
    // Two different selections of Alpaca records, and that shows: 1,000 against 999, inputs in different places.
    expect(notes).toEqual([
      expect.stringMatching(/alpaca\.zh\.json: 1 record that no other language has: id "999"/),
      expect.stringMatching(/alpaca\.zh\.json: 443 records have an input where en has none, or the reverse/),
    ]);
  });

  it("that are malformed are refused by file and line, or left out and listed", async () => {
    const dataDir = await dataFolder({
      en: [record({ id: "a" })],
      fi: '{"id": "a", "instruction": "x", "output": "y"}\n{"instruction": "x"}\n',
    });
    await expect(mixed({ condition: "multilingual", dataDir })).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/alpaca\.fi\.json line 2.*"output" is missing/),
    });
    const notes: string[] = [];
    const cacheDir = await temporaryFolder();
    for (let round = 0; round < 2; round++) {
      const result = await mixed({ condition: "multilingual", dataDir, skipBadRecords: true }, notes, cacheDir);
      expect(result.languages.fi).toMatchObject({ records: 1, bad: 1 });
    }
    expect(notes).toEqual(Array(2).fill(expect.stringMatching(/^left out: .*alpaca\.fi\.json line 2/)));
  });

  it("of another language than their file's are refused", async () => {
    const dataDir = await dataFolder({ en: [record({}), record({ lang: "sv" })] });
    await expect(mixed({ condition: "english", dataDir })).rejects.toMatchObject({
      code: "BAD_DATA",
      message: expect.stringMatching(/alpaca\.en\.json line \d+: .*"sv".*"en"/),
    });
  });

  it("that languages lack are reported, and refused where they make the condition wrong", async () => {
    const [en, fi] = [await sampleRecords("en"), await sampleRecords("fi")];
    const dataDir = await dataFolder({ en, fi: fi.filter((_, i) => i !== 3), fr: await sampleRecords("fr") });
    const notes: string[] = [];
    const { findings } = await mixed({ condition: "downsampled", dataDir }, notes);
    expect(findings).toEqual([
      { kind: "missing", language: "fi", count: 1, message: 'alpaca.fi.json: lacks 1 record that other languages have: id "sample-004"' },
    ]);
    expect(notes).toEqual([expect.stringContaining("sample-004")]);
    const disjoint = { condition: "downsampled", sampling: "disjoint", dataDir } as const;
    await expect(mixed(disjoint)).rejects.toMatchObject({ code: "BAD_DATA", message: expect.stringContaining("--allow-missing") });
    const lines = await linesOf((await mixed({ ...disjoint, allowMissing: true })).files[0]!.file);
    expect(new Set(lines.map(({ id }) => id)).size).toBe(lines.length);
  });
});

describe("the cache", () => {
  it("gives the same result the second time, and is not used for other bytes, settings or when damaged", async () => {
    const cacheDir = await temporaryFolder();
    const settings = { condition: "downsampled", budget: "tokens", tokenizer: sampleDir, languages: ["en", "ru"] } as const;
    const first = await mixed(settings, [], cacheDir);
    const entries = await readdir(cacheDir);
    expect(entries.map((name) => name.slice(name.lastIndexOf("."))).sort()).toEqual([".counts", ".counts", ".index", ".index"]);
    const same = ({ out: _, manifest: __, files, ...rest }: MixResult): object => ({ ...rest, hashes: files.map(({ sha256 }) => sha256) });
    expect(same(await mixed(settings, [], cacheDir))).toEqual(same(first));
    for (const name of entries) {
      const bytes = await readFile(join(cacheDir, name));
      bytes[bytes.length >> 1]! ^= 1;
      await writeFile(join(cacheDir, name), bytes);
    }
    expect(same(await mixed(settings, [], cacheDir))).toEqual(same(first));
    await mixed({ ...settings, cutoff: 100 }, [], cacheDir);
    expect(await readdir(cacheDir)).toHaveLength(6);
  });

  it("that cannot be written is a note", async () => {
    const blocked = join(await temporaryFolder(), "a-file");
    await writeFile(blocked, "x");
    const notes: string[] = [];
    await mixed({ condition: "english", languages: ["en"] }, notes, join(blocked, "cache"));
    expect(notes).toEqual([expect.stringContaining("could not be kept")]);
  });
});

describe("interruptions", () => {
  it("leave no output where the run was cancelled", async () => {
    const out = join(await temporaryFolder(), "out");
    const signal = AbortSignal.abort();
    const settings = { condition: "multilingual", dataDir: sampleDir, out } as const;
    await expect(mix(settings, { signal })).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(mix({ ...settings, tokenizer: sampleDir }, { signal })).rejects.toMatchObject({ code: "CANCELLED" });
    expect(existsSync(out)).toBe(false);
  });

  it("by a source that changes meanwhile are refused, also where the change can be read", async () => {
    const dataDir = await dataFolder({ fi: await sampleRecords("fi") });
    const file = join(dataDir, "alpaca.fi.json");
    const read = () => readLanguage({ language: "fi", file, skipBadRecords: false, counting: null, cacheDir: null });
    const write = async (source: Awaited<ReturnType<typeof read>>): Promise<string> => {
      const planned = { name: "fi.jsonl", parts: [source.index.starts.map((_, i) => i)], isShuffled: false };
      return writeTrainingFile(join(dataDir, "out.jsonl"), lineOrder(planned, [source], 1), [source], undefined);
    };
    const before = await read();
    await utimes(file, 1, 1);
    await expect(write(before)).rejects.toMatchObject({ code: "IO", message: expect.stringContaining("has changed while") });
    const again = await read();
    await appendFile(file, "\n");
    await expect(write(again)).rejects.toMatchObject({ code: "IO" });
    const last = await read();
    await writeFile(file, "x".repeat(last.version.size));
    await expect(write(last)).rejects.toMatchObject({ code: "IO", message: expect.stringContaining("has changed while") });
    await expect(write(await read().catch(() => last))).rejects.toMatchObject({ code: "IO" });
  });
});
