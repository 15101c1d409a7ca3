import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { alpacaTemplates, type PreparedData, type PrepareSettings, prepareExamples } from "../../src/data/index.js";
import { characterTokenizer, dataFile, sampleDir, temporaryFolder } from "./data-folder.js";

const files = ["en", "zh"].map((code) => join(sampleDir, `alpaca.${code}.json`));

function settings(more: Partial<PrepareSettings> = {}): PrepareSettings {
  return {
    tokenizer: characterTokenizer({ addsBos: true }),
    template: alpacaTemplates.lora,
    cutoff: 300,
    trainOn: "response",
    maxEmptyShare: 0.5,
    ...more,
  };
}

const content = ({ examples, withoutTarget, languages, bad, files }: PreparedData): object => ({
  examples,
  withoutTarget,
  languages,
  bad,
  files,
});

describe("prepareExamples", () => {
  it("reads the files in order and says what they were", async () => {
    const data = await prepareExamples(files, settings());
    expect(data.files).toMatchObject(files.map((file) => ({ file, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) })));
    expect([...data.languages.keys()]).toEqual(["en", "zh"]);
    expect(data.examples.length + data.withoutTarget.length).toBe(120);
    expect(data.examples[0]!.place).toEqual({ file: files[0], index: 0, line: 2, column: 3 });
    expect(data).toMatchObject({ bad: [], fromCache: false, notes: [] });
  });

  it("takes the same examples from the cache the second time, also when masked or listed as bad", async () => {
    const lines = [
      '{"instruction": "a", "output": "b"}',
      "{",
      '{"instruction": "c", "output": ""}',
      ...Array<string>(20).fill('{"instruction": "d", "output": "e", "lang": "fi"}'),
    ];
    const jsonl = await dataFile("data.jsonl", lines.join("\n"));
    for (const trainOn of ["response", "prompt+response"] as const) {
      const cacheDir = join(await temporaryFolder(), "made", "when needed");
      const options = settings({ trainOn, cacheDir, skipBadRecords: true });
      const first = await prepareExamples([...files, jsonl], options);
      const second = await prepareExamples([...files, jsonl], options);
      expect([first.fromCache, second.fromCache]).toEqual([false, true]);
      expect(content(second)).toEqual(content(first));
      expect(second.bad).toMatchObject([{ file: jsonl, line: 2 }]);
      expect(await readdir(cacheDir)).toHaveLength(1);
    }
  });

  it("names files by where they are now", async () => {
    const cacheDir = await temporaryFolder();
    const text = await readFile(files[0]!);
    const [here, there] = [await dataFile("alpaca.en.json", text), await dataFile("alpaca.en.json", text)];
    await prepareExamples([here], settings({ cacheDir }));
    const moved = await prepareExamples([there], settings({ cacheDir }));
    expect(moved.fromCache).toBe(true);
    expect(moved.examples[0]!.place.file).toBe(there);
  });

  it("does not use a cache made from other data or with other settings", async () => {
    const cacheDir = await temporaryFolder();
    const english = files.slice(0, 1);
    await prepareExamples(english, settings({ cacheDir }));
    const changes: [readonly string[], Partial<PrepareSettings>][] = [
      [files, {}],
      [english, { cutoff: 299 }],
      [english, { trainOn: "prompt+response" }],
      [english, { template: alpacaTemplates.fft }],
      [english, { language: "fr" }],
      [english, { tokenizer: characterTokenizer({ contentHash: "other" }) }],
      [[await dataFile("alpaca.fi.json", await readFile(files[0]!))], {}],
    ];
    for (const [data, change] of changes) expect((await prepareExamples(data, settings({ cacheDir, ...change }))).fromCache).toBe(false);
    expect((await prepareExamples(english, settings({ cacheDir, maxEmptyShare: 1 }))).fromCache).toBe(true);
  });

  it("makes a cache anew that was cut short or changed anywhere", async () => {
    const cacheDir = await temporaryFolder();
    const first = await prepareExamples(files, settings({ cacheDir }));
    const entry = join(cacheDir, (await readdir(cacheDir))[0]!);
    const whole = await readFile(entry);
    const flip = async (at: number): Promise<void> => {
      const changed = Buffer.from(whole);
      changed[at]! ^= 1;
      await writeFile(entry, changed);
    };
    const damages = [
      () => flip(0),
      () => flip(9),
      () => flip(whole.length >> 1),
      () => flip(whole.length - 1),
      () => truncate(entry, whole.length - 4),
      () => truncate(entry, 0),
    ];
    for (const damage of damages) {
      await damage();
      const again = await prepareExamples(files, settings({ cacheDir }));
      expect(again.fromCache).toBe(false);
      expect(content(again)).toEqual(content(first));
      expect((await readFile(entry)).equals(whole)).toBe(true);
    }
  });

  it("goes on without a cache that cannot be written, and says so", async () => {
    const blocked = join(await dataFile("a-file", "x"), "cache");
    const data = await prepareExamples(files, settings({ cacheDir: blocked }));
    expect(data.examples.length).toBeGreaterThan(0);
    expect(data.notes).toEqual([expect.stringContaining("could not be kept")]);
  });

  it("refuses bad data before it tokenises", async () => {
    const broken = await dataFile("data.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction"}\n');
    await expect(prepareExamples([...files, broken], settings())).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/data\.jsonl line 2/),
    });
    await expect(prepareExamples([files[0]!, "/nowhere.json"], settings())).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(prepareExamples(files, settings({ cutoff: 10 }))).rejects.toMatchObject({
      code: "BAD_DATA",
      message: expect.stringContaining("no target left"),
    });
  });
});
