import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  type AlpacaRecord,
  alpacaTemplates,
  type Example,
  ignoredLabel,
  siftExamples,
  tokenizeRecord,
  tokenizeRecords,
} from "../../src/data/index.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { fixtureDir, modelFolder } from "../tokenizer/model-folder.js";
import { characterTokenizer, numbersFrom } from "./data-folder.js";

const template = { promptInput: "{instruction}+{input}:", promptNoInput: "{instruction}:", responseSplit: ":" };
const place = { file: "data.jsonl", index: 0, line: 1, column: 1 };

function record(instruction: string, output: string, more: Partial<AlpacaRecord> = {}): AlpacaRecord {
  return { instruction, input: "", output, language: "en", id: null, place, ...more };
}

const ids = (text: string): number[] => Array.from(text, (char) => char.codePointAt(0)! + 10);

describe("tokenizeRecord", () => {
  it("puts BOS first where the tokenizer does and EOS last", () => {
    const settings = { template, cutoff: 20, trainOn: "prompt+response" } as const;
    const withBos = tokenizeRecord(record("ab", "cd"), characterTokenizer({ addsBos: true }), settings);
    expect([...withBos.inputIds]).toEqual([1, ...ids("ab:cd"), 2]);
    expect([...withBos.labels]).toEqual([...withBos.inputIds]);
    expect(withBos).toMatchObject({ targetTokens: 6, truncated: false, language: "en", place });
    const without = tokenizeRecord(record("ab", "cd", { input: "x" }), characterTokenizer(), settings);
    expect([...without.inputIds]).toEqual([...ids("ab+x:cd"), 2]);
    expect([...tokenizeRecord(record("ab", "cd"), characterTokenizer({ eosTokenId: null }), settings).inputIds]).toEqual(ids("ab:cd"));
  });

  it("masks the tokens of the prompt, BOS among them", () => {
    const settings = { template, cutoff: 20, trainOn: "response" } as const;
    const masked = tokenizeRecord(record("ab", "cd"), characterTokenizer({ addsBos: true }), settings);
    expect([...masked.labels]).toEqual([...Array(4).fill(ignoredLabel), ...ids("cd"), 2]);
    expect(masked.targetTokens).toBe(3);
    // An empty response still teaches to stop.
    expect(tokenizeRecord(record("ab", ""), characterTokenizer(), settings)).toMatchObject({ targetTokens: 1 });
  });

  it.each([
    [7, 7, [2], false],
    [6, 6, [], false],
    [5, 5, [], true],
    [1, 1, [], true],
  ])("with a cutoff of %i keeps %i tokens, with EOS only where there is room", (cutoff, length, eos, truncated) => {
    const whole = [1, ...ids("ab:cd")];
    const example = tokenizeRecord(record("ab", "cd"), characterTokenizer({ addsBos: true }), {
      template,
      cutoff,
      trainOn: "prompt+response",
    });
    expect([...example.inputIds]).toEqual([...whole.slice(0, cutoff), ...eos]);
    expect(example.inputIds).toHaveLength(length);
    expect(example).toMatchObject({ truncated, targetTokens: length - 1 });
  });

  it("leaves no target where the prompt fills the cutoff", () => {
    const example = tokenizeRecord(record("abcdef", "gh"), characterTokenizer(), { template, cutoff: 7, trainOn: "response" });
    expect(example).toMatchObject({ targetTokens: 0, truncated: true });
    expect(new Set(example.labels)).toEqual(new Set([ignoredLabel]));
  });

  it("counts as targets exactly the labels that a shifted loss uses, for any data", () => {
    const random = numbersFrom(5);
    for (let round = 0; round < 300; round++) {
      const tokenizer = characterTokenizer({ addsBos: random(2) === 1, eosTokenId: random(2) === 1 ? 2 : null });
      const trainOn = random(2) === 1 ? "response" : "prompt+response";
      const cutoff = 1 + random(30);
      const { inputIds, labels, targetTokens } = tokenizeRecord(record("x".repeat(random(15)), "y".repeat(random(15))), tokenizer, {
        template,
        cutoff,
        trainOn,
      });
      expect(inputIds.length).toBeLessThanOrEqual(cutoff);
      expect(labels).toHaveLength(inputIds.length);
      expect(targetTokens).toBe(labels.subarray(1).filter((label) => label !== ignoredLabel).length);
      for (const [t, label] of labels.entries()) if (label !== ignoredLabel) expect(label).toBe(inputIds[t]);
    }
  });

  it("tokenises prompt and response as one text with a real tokenizer", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": join(fixtureDir, "llama-like.tokenizer.model") }));
    const example = tokenizeRecord(record("Say hi.", "Hi there."), tokenizer, {
      template: alpacaTemplates.fft,
      cutoff: 512,
      trainOn: "response",
    });
    const targets = example.inputIds.filter((_, t) => example.labels[t] !== ignoredLabel);
    expect(example.inputIds[0]).toBe(1);
    expect(example.inputIds.at(-1)).toBe(2);
    expect(tokenizer.decode(example.inputIds)).toMatch(/### Response:Hi there\.$/);
    expect(tokenizer.decode(targets, { continuation: true })).toBe("Hi there.");
  });
});

describe("tokenizeRecords", () => {
  it("keeps the order, reports progress and lets the event loop run", async () => {
    const records = Array.from({ length: 300 }, (_, i) => record("a".repeat(i % 7), "b", { place: { ...place, index: i } }));
    const progress: number[] = [];
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const examples = await tokenizeRecords(
      records,
      characterTokenizer(),
      { template, cutoff: 50, trainOn: "response" },
      { onProgress: (done) => progress.push(done) },
    );
    clearInterval(timer);
    expect(examples.map((example) => example.place.index)).toEqual(records.map((_, i) => i));
    expect(progress).toEqual([0, 128, 256, 300]);
    expect(turns).toBeGreaterThan(0);
  });

  it("stops when it is told to", async () => {
    const signal = AbortSignal.abort();
    await expect(
      tokenizeRecords([record("a", "b")], characterTokenizer(), { template, cutoff: 9, trainOn: "response" }, { signal }),
    ).rejects.toMatchObject({ code: "CANCELLED" });
  });
});

describe("siftExamples", () => {
  const settings = { template, cutoff: 6, trainOn: "response" } as const;
  const examples = (withTarget: number, without: number): Example[] => [
    ...Array.from({ length: withTarget }, (_, i) =>
      tokenizeRecord(record("a", "bcdefgh".slice(0, 1 + (i % 7)), { language: i % 2 ? "fi" : "en" }), characterTokenizer(), settings),
    ),
    ...Array.from({ length: without }, (_, i) =>
      tokenizeRecord(record("abcdefgh", "x", { place: { ...place, line: i + 40 } }), characterTokenizer(), settings),
    ),
  ];

  it("keeps out what has no target, lists it, and counts per language", () => {
    const sifted = siftExamples(examples(14, 1), 0.1);
    expect(sifted.examples).toHaveLength(14);
    expect(sifted.withoutTarget.map((example) => example.place.line)).toEqual([40]);
    const kept = (language: string): readonly Example[] => sifted.examples.filter((example) => example.language === language);
    for (const language of ["en", "fi"]) {
      expect(sifted.languages.get(language)).toEqual({
        examples: 7,
        tokens: kept(language).reduce((sum, { inputIds }) => sum + inputIds.length, 0),
        targetTokens: kept(language).reduce((sum, { targetTokens }) => sum + targetTokens, 0),
        truncated: kept(language).filter(({ truncated }) => truncated).length,
        withoutTarget: language === "en" ? 1 : 0,
      });
    }
    expect(sifted.languages.get("fi")!.truncated).toBeGreaterThan(0);
  });

  it("refuses data of which all, or more than the share allowed, has no target", () => {
    expect(() => siftExamples(examples(0, 2), 1)).toThrow(/2 of 2 examples have no target left, the first at data\.jsonl line 40/);
    expect(() => siftExamples(examples(18, 2), 0.05)).toThrow(/2 of 20 .*--max-empty-share/);
    expect(siftExamples(examples(19, 1), 0.05).withoutTarget).toHaveLength(1);
  });
});
