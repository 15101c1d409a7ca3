import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { readAlpaca } from "../../src/data/index.js";
import { FastTextModel, identifyLanguage } from "../../src/language-id/index.js";
import {
  type FlaggedRecord,
  flagRecords,
  type QualityFlag,
  qualityFlags,
  summariseQuality,
  type TranslatedRecord,
} from "../../src/translate/quality.js";
import { sampleDir } from "../data/data-folder.js";

const languages = ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"];
let model: FastTextModel;
/** The sample's records with their translations by people. */
const sample = new Map<string, TranslatedRecord[]>();

const identify = (text: string): string => identifyLanguage(model, text, { candidates: languages }).language;
const flag = (records: readonly TranslatedRecord[], targetLanguage: string, sourceLanguage = "en"): readonly FlaggedRecord[] =>
  flagRecords(records, { sourceLanguage, targetLanguage, identify });

beforeAll(async () => {
  model = await FastTextModel.loadBundled();
  const fields = async (language: string): Promise<{ id: string; fields: Record<string, string> }[]> =>
    (await readAlpaca(join(sampleDir, `alpaca.${language}.json`))).records.map(({ id, instruction, input, output }) => ({
      id: id!,
      fields: { instruction, input, output },
    }));
  const source = await fields("en");
  for (const language of languages) {
    const translated = await fields(language);
    sample.set(
      language,
      source.map(({ id, fields: texts }, i) => ({ id, source: texts, translation: translated[i]!.fields, lost: [] })),
    );
  }
});

/** A record of three texts of some length: a summary. */
const changed = 2;

/** German translations, one record changed. */
function germanWith(change: (record: TranslatedRecord) => Partial<TranslatedRecord>): TranslatedRecord[] {
  return sample.get("de")!.map((record, i) => (i === changed ? { ...record, ...change(record) } : record));
}

const one = (source: string, translation: string, lost: readonly string[] = []): TranslatedRecord[] => [
  { id: "1", source: { output: source }, translation: { output: translation }, lost },
];
const flagsOf = (records: readonly TranslatedRecord[], target = "de"): readonly QualityFlag[] => flag(records, target)[0]?.flags ?? [];

describe("flagRecords", () => {
  it("flags next to none of the translations that people made", () => {
    const counts = languages.filter((language) => language !== "en").map((language) => flag(sample.get(language)!, language).length);
    // The sample adapts four tasks that are bound to a language, in which numbers, names in code or lengths differ.
    expect(counts.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(8 * 2);
    for (const count of counts) expect(count).toBeLessThanOrEqual(4);
  });

  it("names the record, the field and the fault", () => {
    const records = germanWith(({ translation }) => ({ translation: { ...translation, output: "" } }));
    const found = flag(records, "de").filter(({ index }) => index === changed);
    expect(found).toEqual([
      {
        index: changed,
        id: records[changed]!.id,
        flags: ["empty"],
        findings: [{ flag: "empty", field: "output", detail: expect.stringMatching(/^nothing for \d+ characters$/) }],
      },
    ]);
  });

  it.each<[QualityFlag, (record: TranslatedRecord) => Partial<TranslatedRecord>]>([
    ["empty", ({ translation }) => ({ translation: { ...translation, instruction: " \n" } })],
    ["source-copy", ({ source, translation }) => ({ translation: { ...translation, output: source.output! } })],
    ["source-copy", ({ source, translation }) => ({ translation: { ...translation, output: source.output!.toUpperCase() } })],
    ["wrong-language", ({ translation }) => ({ translation: { ...translation, output: sample.get("fr")![changed]!.translation.output! } })],
    ["wrong-language", ({ translation }) => ({ translation: { ...translation, output: sample.get("zh")![changed]!.translation.output! } })],
    [
      "length-ratio",
      ({ translation }) => ({ translation: { ...translation, output: translation.output!.slice(0, translation.output!.length / 4) } }),
    ],
    [
      "length-ratio",
      ({ translation }) => ({
        translation: {
          ...translation,
          output: `${translation.output!} ${sample.get("de")![changed + 1]!.translation.output!} ${sample.get("de")![changed + 7]!.translation.output!} ${sample.get("de")![0]!.translation.output!}`,
        },
      }),
    ],
    [
      "repetition",
      ({ translation }) => ({
        translation: { ...translation, output: `${translation.output!} und so weiter und so weiter und so weiter und so weiter` },
      }),
    ],
    ["lost-piece", () => ({ lost: ["{name}"] })],
    ["missing-number", ({ source, translation }) => ({ source: { ...source, output: `${source.output!} In 1984.` }, translation })],
  ])("flags %s", (expected, change) => {
    const untouched = flag(sample.get("de")!, "de").find(({ index }) => index === changed);
    expect(untouched).toBeUndefined();
    expect(flag(germanWith(change), "de").find(({ index }) => index === changed)?.flags).toContain(expected);
  });

  it("leaves fields alone that are empty or have no letters in the source too", () => {
    expect(flagsOf(one("", ""))).toEqual([]);
    expect(flagsOf(one("12 + 30 = 42", "12 + 30 = 42"))).toEqual([]);
    expect(flagsOf(one("12 + 30 = 42", ""))).toEqual(["empty"]);
  });

  it("takes names, code and short answers that stay the same for no copy", () => {
    expect(flagsOf(one("Paris", "Paris"))).toEqual([]);
    expect(flagsOf(one("Marie Curie, Albert Einstein, Isaac Newton", "Marie Curie, Albert Einstein, Isaac Newton"))).not.toContain(
      "source-copy",
    );
    const code = "```py\nfor word in many words of code here:\n    print(word)\n```";
    expect(flagsOf(one(code, code))).toEqual([]);
  });

  it("sees a copy of most lines beside lines that were translated", () => {
    const source = "the dog is in the garden today\nthe cat sleeps under the old tree\nthe birds sing in the morning";
    const half = "der Hund ist heute im Garten\nthe cat sleeps under the old tree\nthe birds sing in the morning";
    expect(flagsOf(one(source, half))).toContain("source-copy");
    expect(
      flagsOf(one(source, "der Hund ist heute im Garten\ndie Katze schläft unter dem alten Baum\nthe birds sing in the morning")),
    ).not.toContain("source-copy");
  });

  it("does not call a text of another language wrong where the source is in it as well", () => {
    const french = "Le chat dort sous le vieil arbre du jardin.";
    expect(flagsOf(one(french, french))).not.toContain("wrong-language");
  });

  it("finds lost pieces by itself, for translations that were made elsewhere", () => {
    const source = "Write {name} to anna@example.org and run `npm test` twice, `npm test` again.";
    const [record] = flag(one(source, "Schreibe {Name} an anna@example.org und starte `npm test` zweimal, noch einmal."), "de");
    expect(record!.findings.filter(({ flag: found }) => found === "lost-piece").map(({ detail }) => detail)).toEqual([
      "{name}",
      "`npm test`",
    ]);
  });

  it("says a lost piece once, whoever found it", () => {
    const [record] = flag(one("Write {name} a letter today.", "Schreibe heute einen Brief.", ["{name}", "{name}"]), "de");
    expect(record!.findings.filter(({ flag: found }) => found === "lost-piece")).toHaveLength(1);
  });

  it("looks for no missing numbers in code and addresses", () => {
    expect(flagsOf(one("Open `x[417]` at https://a.org/2024 please.", "Öffne bitte `x[417]` unter https://a.org/2024."))).toEqual([]);
  });
});

describe("summariseQuality", () => {
  it("counts records per flag and gives examples spread over the data", () => {
    const records = sample
      .get("de")!
      .map((record, i) => (i % 10 === 0 ? { ...record, translation: { ...record.translation, output: "" } } : record));
    const summary = summariseQuality(records, flag(records, "de"), { examplesPerFlag: 2 });
    expect(summary.records).toBe(60);
    expect(summary.flags.empty).toBe(6);
    expect(Object.keys(summary.flags)).toEqual([...qualityFlags]);
    const examples = summary.examples.filter((example) => example.flag === "empty");
    expect(examples.map(({ id }) => id)).toEqual([records[0]!.id, records[30]!.id]);
    expect(examples[0]).toMatchObject({ field: "output", source: records[0]!.source.output, translation: "" });
  });

  it("shows the longest field where a finding is about the record", () => {
    const records = germanWith(() => ({ lost: ["%s"] }));
    const example = summariseQuality(records, flag(records, "de")).examples.find(({ detail }) => detail === "%s")!;
    expect(example.field).toBeNull();
    expect(Object.values(records[changed]!.source).every((text) => text.length <= example.source.length)).toBe(true);
  });
});
