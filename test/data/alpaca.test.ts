import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readAlpaca, readPrompts } from "../../src/data/index.js";
import { alpaca, dataFile, realDataDir, sampleDir } from "./data-folder.js";

const jsonl = (...records: object[]): string => records.map((record) => `${JSON.stringify(record)}\n`).join("");

describe("readAlpaca", () => {
  it("reads a JSON array and JSONL alike", async () => {
    const records = [alpaca("Say hi.", "Hi."), { instruction: "Repeat.", input: "x", output: "x", id: 7 }];
    for (const content of [JSON.stringify(records), JSON.stringify(records, null, 2), jsonl(...records)]) {
      const read = await readAlpaca(await dataFile("data.json", content));
      expect(read.records).toMatchObject([
        { instruction: "Say hi.", input: "", output: "Hi.", language: "und", id: null, place: { index: 0 } },
        { instruction: "Repeat.", input: "x", output: "x", id: "7", place: { index: 1 } },
      ]);
      expect(read.bad).toEqual([]);
    }
  });

  it("says at which line and column each record of an array begins", async () => {
    const content =
      '\n[\n  {"instruction": "a \\" [ { , b", "output": "[]"},\n  {"instruction": "b",\n   "output": "{\\"x\\": 1}"},   {"instruction": "c", "output": "d", "tags": [1, {"y": [2]}]}\n]\n';
    const { records } = await readAlpaca(await dataFile("data.json", content));
    expect(records.map(({ place }) => [place.line, place.column])).toEqual([
      [3, 3],
      [4, 3],
      [5, 31],
    ]);
  });

  it("takes a byte order mark, CRLF line ends, blank lines, line separators inside texts and a missing last line break", async () => {
    const content = `\ufeff${JSON.stringify(alpaca("a", "one\u2028two"))}\r\n\r\n${JSON.stringify(alpaca("b", ""))}`;
    const { records } = await readAlpaca(await dataFile("data.jsonl", content));
    expect(records.map(({ instruction, output, place }) => [instruction, output, place.line])).toEqual([
      ["a", "one\u2028two", 1],
      ["b", "", 3],
    ]);
    const array = await readAlpaca(await dataFile("data.json", `\ufeff[${JSON.stringify(alpaca("a", "b"))}]`));
    expect(array.records).toHaveLength(1);
  });

  it("takes the language from the record, else from the caller, else from the file name", async () => {
    const content = jsonl(alpaca("a", "b", { language: "fi" }), alpaca("a", "b", { lang: "cs" }), alpaca("a", "b"));
    const languages = async (name: string, language?: string): Promise<string[]> =>
      (await readAlpaca(await dataFile(name, content), language === undefined ? {} : { language })).records.map(
        (record) => record.language,
      );
    expect(await languages("alpaca.de.jsonl")).toEqual(["fi", "cs", "de"]);
    expect(await languages("alpaca.de.jsonl", "fr")).toEqual(["fi", "cs", "fr"]);
    expect(await languages("alpaca.jsonl")).toEqual(["fi", "cs", "und"]);
  });

  it("reads the bundled sample", async () => {
    for (const code of ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"]) {
      const { records } = await readAlpaca(join(sampleDir, `alpaca.${code}.json`));
      expect(records).toHaveLength(60);
      expect(new Set(records.map(({ language }) => language))).toEqual(new Set([code]));
    }
  });

  it("reads the public Alpaca files", async ({ skip }) => {
    const file = join(realDataDir, "alpaca_en_demo.json");
    if (!existsSync(file)) skip("../shared/data is not there");
    expect((await readAlpaca(file)).records).toHaveLength(999);
    expect((await readAlpaca(join(realDataDir, "alpaca_zh_demo.json"))).records).toHaveLength(1000);
  });
});

describe("malformed Alpaca data is refused by file, line, column and reason", () => {
  const good = JSON.stringify(alpaca("a", "b"));
  it.each([
    [
      "a second closing quote",
      `${good}\n{"instruction": "a", "output": "b""}\n`,
      /data\.jsonl line 2, column 35: not valid JSON \(a second closing quote\)\. .*--skip-bad-records/,
    ],
    ["a text never closed", `${good}\n${good}\n{"instruction": "a`, /line 3, column 17: not valid JSON \(a text that is never closed\)/],
    ["a missing comma", '{"instruction": "a" "output": "b"}', /line 1, column 21: not valid JSON \("," or "}" was expected, found "\\""\)/],
    ["a bare tab", '{"instruction": "a\tb", "output": "b"}', /column 19: .*bare tab/],
    ["an unknown escape", '{"instruction": "a\\qb", "output": "b"}', /column 19: .*unknown escape/],
    ["two objects on a line", `${good}${good}`, /column \d+: .*the end was expected, found "\{"/],
    ["no object", `${good}\n[1, 2]\n`, /line 2, column 1: a JSON object was expected, found an array/],
    [
      "a missing field",
      `${good}\n{"instruction": "a", "input": ""}\n`,
      /line 2, column 1: the field "output" is missing \(found: "instruction", "input"\)/,
    ],
    [
      "a number for a text",
      `${good}\n${JSON.stringify({ ...alpaca("a", "b"), output: 4 })}`,
      /line 2, column 1: "output" is a number, a text was expected/,
    ],
    ["a null text", JSON.stringify({ ...alpaca("a", "b"), instruction: null }), /line 1, column 1: "instruction" is null/],
    ["earlier turns", `${good}\n${JSON.stringify(alpaca("a", "b", { history: [["q", "a"]] }))}`, /line 2, column 1: the field "history"/],
  ])("%s in JSONL", async (_, content, message) => {
    await expect(readAlpaca(await dataFile("data.jsonl", content))).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(message),
    });
  });

  it.each([
    [
      "a missing comma between records",
      `[\n${good}\n${good}\n]`,
      /data\.json line 3, column 1: not valid JSON \("," or "\]" was expected, found "\{"\)/,
    ],
    ["a trailing comma", `[\n${good},\n]`, /line 3, column 1: .*a value was expected, found "\]"/],
    ["an end that is missing", `[\n${good},\n{"instruction": "a"`, /line 3, column 20: .*found the end/],
    ["a bare line break inside a text", `[{"instruction": "a\nb", "output": "c"}]`, /line 1, column 20: .*bare line break/],
    [
      "a wrong field",
      `[\n${good},\n\n  {"instruction": "a", "output": []}]`,
      /line 4, column 3: "output" is an array, a text was expected/,
    ],
    ["no object", `[${good},\n null]`, /line 2, column 2: a JSON object was expected, found null/],
  ])("%s in a JSON array", async (_, content, message) => {
    await expect(readAlpaca(await dataFile("data.json", content))).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(message),
    });
  });

  it("broken UTF-8 and UTF-16", async () => {
    const broken = Buffer.concat([Buffer.from(`${good}\n{"instruction": "`), Buffer.from([0xff, 0xc0]), Buffer.from('"}\n')]);
    await expect(readAlpaca(await dataFile("data.jsonl", broken))).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/line 2: not valid UTF-8/),
    });
    const utf16 = Buffer.from(`\ufeff${good}`, "utf16le");
    await expect(readAlpaca(await dataFile("data.jsonl", utf16))).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringContaining("UTF-16"),
    });
  });
});

describe("data of no use is refused", () => {
  it.each([
    ["an empty file", "", /the file is empty/],
    ["white space", " \n\n", /the file is empty/],
    ["an empty array", "[]", /no usable record/],
    [
      "ShareGPT",
      JSON.stringify([{ conversations: [{ from: "human", value: "hi" }] }]),
      /first record has the fields "conversations" \(ShareGPT\)/,
    ],
    ["chat messages", jsonl({ messages: [] }), /"messages" \(chat messages\)/],
    ["Dolly", jsonl({ instruction: "a", context: "", response: "b" }), /"instruction", "context", "response" \(instruction and response/],
    ["unknown fields", jsonl({ question: "a", answer: "b" }), /fields "question", "answer"; "instruction"/],
    [
      "one object around the records",
      JSON.stringify({ version: 1, data: [alpaca("a", "b")] }, null, 2),
      /one JSON object with the fields "version", "data"/,
    ],
  ])("%s", async (_, content, message) => {
    await expect(readAlpaca(await dataFile("data.json", content))).rejects.toMatchObject({
      code: "BAD_DATA",
      message: expect.stringMatching(message),
    });
  });

  it("a file that is not there", async () => {
    await expect(readAlpaca("/nowhere/alpaca.json")).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("alpaca.json"),
    });
  });
});

describe("skipBadRecords", () => {
  it("lists what it leaves out and keeps the rest", async () => {
    const content = `${JSON.stringify(alpaca("a", "1"))}\n{"instruction"\n${JSON.stringify(alpaca("b", "2"))}\n{"instruction": "c"}\n`;
    const { records, bad } = await readAlpaca(await dataFile("data.jsonl", content), { skipBadRecords: true });
    expect(records.map(({ instruction }) => instruction)).toEqual(["a", "b"]);
    expect(bad).toMatchObject([
      { line: 2, reason: expect.stringContaining("not valid JSON") },
      { line: 4, reason: expect.stringContaining('"output" is missing') },
    ]);
  });

  it("does not go past a syntax error in an array, where the next record is unknown", async () => {
    const file = await dataFile("data.json", '[{"instruction": "a", "output": "b""}, {"instruction": "c", "output": "d"}]');
    await expect(readAlpaca(file, { skipBadRecords: true })).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringContaining("cannot be skipped"),
    });
  });

  it("does not accept that nothing is left", async () => {
    const file = await dataFile("data.jsonl", '{"instruction": 1, "output": "b"}\n');
    await expect(readAlpaca(file, { skipBadRecords: true })).rejects.toMatchObject({ code: "BAD_DATA" });
  });
});

describe("readPrompts", () => {
  it("keeps ids as they are, files in order, and takes the language from field, caller or file name", async () => {
    const first = await dataFile("test_fr.jsonl", jsonl({ id: "a", prompt: "un" }, { id: 2, prompt: "zwei", language: "de" }));
    const second = await dataFile("other.jsonl", jsonl({ id: "a", prompt: "one" }));
    const { prompts } = await readPrompts([first], {});
    expect(prompts).toEqual([
      { id: "a", prompt: "un", language: "fr", file: first, line: 1 },
      { id: 2, prompt: "zwei", language: "de", file: first, line: 2 },
    ]);
    expect((await readPrompts([first, second], { language: "en" }).catch((error: Error) => error.message)) as string).toMatch(
      /line 1, column 1: id "a" was used for en already/,
    );
    expect((await readPrompts([second], { language: "en" })).prompts[0]).toMatchObject({ language: "en" });
  });

  it("refuses what it cannot use, by file and line", async () => {
    const refusal = async (name: string, content: string): Promise<{ code: string; message: string }> =>
      readPrompts([await dataFile(name, content)]).then(
        () => expect.unreachable(),
        (error) => error,
      );
    expect(await refusal("prompts.jsonl", jsonl({ id: 1, prompt: "a" }))).toMatchObject({
      code: "BAD_DATA",
      message: expect.stringMatching(/line 1: .*--language/),
    });
    expect(await refusal("test_en.jsonl", jsonl(alpaca("a", "b")))).toMatchObject({
      code: "BAD_DATA",
      message: expect.stringContaining('"instruction"'),
    });
    expect(await refusal("test_en.jsonl", jsonl({ id: 1, prompt: "a" }, { id: 1, prompt: "b" }))).toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/line 2, .*id 1 .*test_en\.jsonl line 1/),
    });
    expect(await refusal("test_en.jsonl", jsonl({ id: 1, prompt: "a" }, { id: 2 }))).toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/line 2, column 1: the field "prompt" is missing/),
    });
    expect(await refusal("test_en.jsonl", jsonl({ id: 1, prompt: 5 }))).toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringContaining('"prompt" is a number'),
    });
  });

  it("names the real malformed line of the study's Hindi prompts, or leaves it out", async ({ skip }) => {
    const file = join(realDataDir, "test-data/test_hi.jsonl");
    if (!existsSync(file)) skip("../shared/data is not there");
    await expect(readPrompts([file])).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/test_hi\.jsonl line 50, column 106: not valid JSON \(a second closing quote\)/),
    });
    const { prompts, notes } = await readPrompts([file], { skipBadRecords: true });
    expect(prompts).toHaveLength(49);
    expect(notes).toEqual([expect.stringMatching(/left out: .*line 50, column 106/)]);
  });

  it("reads all 50 of the study's other prompts, CR bytes and missing line breaks or not", async ({ skip }) => {
    if (!existsSync(realDataDir)) skip("../shared/data is not there");
    for (const code of ["bg", "bn", "cs", "en", "es", "fi", "fr", "no", "ru", "zh"]) {
      const { prompts } = await readPrompts([join(realDataDir, `test-data/test_${code}.jsonl`)]);
      expect(prompts).toHaveLength(50);
      expect(prompts[49]).toMatchObject({ language: code, line: 50 });
    }
  });
});
