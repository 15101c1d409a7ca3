import { describe, expect, it } from "vitest";
import { parseCsv } from "../../src/evaluate/csv.js";
import { parseHumanScores } from "../../src/evaluate/read-human-scores.js";
import { parseJudgements } from "../../src/evaluate/read-judgements.js";
import { parseResponses, type ReadResponsesOptions } from "../../src/evaluate/read-responses.js";

const jsonl = (...rows: readonly unknown[]): Buffer => Buffer.from(rows.map((row) => JSON.stringify(row)).join("\n"));

describe("parseResponses", () => {
  const row = {
    id: 7,
    language: "en",
    system: "a",
    model: "m",
    method: "lora",
    condition: "english",
    seed: 1,
    prompt: "p",
    response: "r ",
  };

  it("reads what generate writes, ids as text", () => {
    const [read] = parseResponses(jsonl({ ...row, tokens: 3, finishReason: "stop" }), "r.jsonl");
    expect(read).toMatchObject({ ...row, id: "7", place: { file: "r.jsonl", line: 1 } });
  });

  it("takes a language from lang, the option and the file name, in this order", () => {
    const { language: _, ...rest } = row;
    const languageOf = (value: object, file: string, options?: ReadResponsesOptions) =>
      parseResponses(jsonl(value), file, options)[0]!.language;
    expect(languageOf({ ...rest, lang: "fr" }, "test_es.jsonl", { language: "bg" })).toBe("fr");
    expect(languageOf(rest, "test_es.jsonl", { language: "bg" })).toBe("bg");
    expect(languageOf(rest, "test_es.jsonl")).toBe("es");
    expect(() => languageOf(rest, "r.jsonl")).toThrow(/^r\.jsonl line 1: nothing says the language.*--language/);
  });

  it("lists every faulty row by line", () => {
    const rows = [row, { ...row, id: 1.5 }, { ...row, language: "English" }, { ...row, response: null }, { ...row, system: "" }];
    const text = `${rows.map((each) => JSON.stringify(each)).join("\n")}\n{"id": 3,\n`;
    expect(() => parseResponses(Buffer.from(text), "r.jsonl")).toThrow(
      expect.objectContaining({
        code: "BAD_RECORD",
        message: expect.stringMatching(
          /^r\.jsonl line 2, .*"id" is 1\.5.*\nr\.jsonl line 3, .*"English" is no code.*\nr\.jsonl line 4, .*"response" is null.*\nr\.jsonl line 5, .*"system" is empty\nr\.jsonl line 6, .*not valid JSON/,
        ),
      }),
    );
  });

  it("refuses other formats by the fields found", () => {
    expect(() => parseResponses(jsonl({ instruction: "i", output: "o" }), "x.jsonl")).toThrow(
      /^x\.jsonl: not responses: .*"instruction", "output"/,
    );
  });

  describe("the study's full-parameter output", () => {
    it("gets its system from the folder, its language from the name, and its answer cleaned", () => {
      const rows = jsonl(
        { id: "q1", prompt: "p", response: "Yes.</s>" },
        { id: "q2", prompt: "p", response: "No.\n\n### Instruction:\nmore" },
      );
      expect(parseResponses(rows, "output/bloom-560m-multi/test_fr.jsonl")).toMatchObject([
        { id: "q1", system: "bloom-560m-multi", language: "fr", response: "Yes." },
        { id: "q2", system: "bloom-560m-multi", language: "fr", response: "No." },
      ]);
    });
  });

  describe("the study's LoRA output", () => {
    const prompts = ["eins", "zwei"].map((prompt, index) => ({
      id: `q${index}`,
      prompt,
      language: "de",
      file: "test_de.jsonl",
      line: index + 1,
    }));
    const file = "data/test-de_decoded_by_bloom-1b1-multi.jsonl";
    const output = (...instructions: string[]) =>
      jsonl(...instructions.map((instruction) => ({ instruction, input: null, response: ` ja ${instruction} ` })));

    it("gets language and system from the name and ids by line order", () => {
      expect(parseResponses(output("eins", "zwei"), file, { prompts })).toMatchObject([
        { id: "q0", language: "de", system: "bloom-1b1-multi", prompt: "eins", response: "ja eins" },
        { id: "q1", language: "de", system: "bloom-1b1-multi", prompt: "zwei", response: "ja zwei" },
      ]);
    });

    it("is refused where its order is not the prompts', or there are no prompts", () => {
      expect(() => parseResponses(output("zwei", "eins"), file, { prompts })).toThrow(/line 1, .*not that of test_de\.jsonl line 1/);
      expect(() => parseResponses(output("eins", "zwei", "drei"), file, { prompts })).toThrow(/line 3, .*no de prompt number 3/);
      expect(() => parseResponses(output("eins"), file)).toThrow(/have no ids\. Pass the de prompts/);
      expect(() => parseResponses(output("eins"), "other.jsonl", { prompts })).toThrow(/do not say their language and system/);
    });
  });
});

describe("parseJudgements", () => {
  const row = { id: "1", language: "en", system: "a", judge: "j", rating: 2, explanation: "e", raw: "2" };

  it("reads ratings, unparsable ones and repeats", () => {
    const rows = parseJudgements(jsonl(row, { ...row, rating: null, repeat: 1 }), "j.jsonl");
    expect(rows).toMatchObject([
      { rating: 2, repeat: 0 },
      { rating: null, repeat: 1 },
    ]);
  });

  it("lists ratings out of the scale and malformed rows by line", () => {
    const { rating: _, ...unrated } = row;
    const bytes = jsonl(row, { ...row, rating: 4 }, { ...row, rating: "3" }, unrated, { ...row, repeat: -1 }, { ...row, judge: 5 });
    expect(() => parseJudgements(bytes, "j.jsonl")).toThrow(
      /^j\.jsonl line 2, .*"rating" is 4, 1 to 3.*\n.*line 3, .*"rating" is a text\n.*line 4, .*"rating" is missing\n.*line 5, .*"repeat" is -1.*\n.*line 6, .*"judge" is a number/,
    );
  });

  it("refuses responses given in their place", () => {
    expect(() => parseJudgements(jsonl({ id: 1, response: "r" }), "r.jsonl")).toThrow(/^r\.jsonl: not judgements: .*"id", "response"/);
  });
});

describe("parseHumanScores", () => {
  const scale = { min: 1, max: 3 };
  const csv = (text: string, name = "h.csv") => parseHumanScores(Buffer.from(text), name, scale);

  it("reads CSV with columns in any order, quotes, CRLF and a byte order mark", () => {
    const text =
      '\uFEFFrating,comment,system,language,id,rater\r\n3,"good, ""very""",a b,en,1,Ann\r\n2,"two\nlines",a b,en,2,\r\n1,,a b,en,3,Bo\r\n';
    expect(csv(text)).toMatchObject([
      { rating: 3, system: "a b", language: "en", id: "1", rater: "Ann", place: { line: 2 } },
      { rating: 2, id: "2", rater: "human", place: { line: 3 } },
      { rating: 1, id: "3", rater: "Bo", place: { line: 5 } },
    ]);
  });

  it("reads JSONL", () => {
    expect(parseHumanScores(jsonl({ id: 1, language: "en", system: "a", rating: 2.5 }), "h.jsonl", scale)).toMatchObject([
      { id: "1", rating: 2.5 },
    ]);
  });

  it("names the columns that are missing and those found", () => {
    expect(() => csv("id;language;system;rating\n1;en;a;3")).toThrow(
      /"id", "language", "system", "rating" missing among "id;language;system;rating"/,
    );
    expect(() => csv("id,language,system,score\n1,en,a,3")).toThrow(/; "rating" missing among "id", "language", "system", "score"/);
    expect(() => csv("id,language,system,rating\n")).toThrow(/no scores/);
    expect(() => csv("")).toThrow(/no scores/);
  });

  it("lists wrong rows by line", () => {
    expect(() => csv("id,language,system,rating\n1,en,a,5\n2,en,a\n3,en,a,good\n4,en,,2\n5,EN,a,2\n6,en,a,")).toThrow(
      /^h\.csv line 2, .*5, 1 to 3.*\n.*line 3, .*3 cells, but the header has 4.*\n.*line 4, .*"good".*\n.*line 5, .*"system" is empty\n.*line 6, .*"EN" is no code.*\n.*line 7, .*"rating" is ""/,
    );
  });
});

describe("parseCsv", () => {
  it("names the line of a quote that is not closed or has text beside it", () => {
    expect(() => parseCsv('a,b\n1,"x\n', "f.csv")).toThrow(/^f\.csv line 2: a quote/);
    expect(() => parseCsv('a,b\n\n1,"x"y\n', "f.csv")).toThrow(/^f\.csv line 3: a quote/);
  });

  it("keeps empty cells and leaves out empty lines", () => {
    expect(parseCsv("a,,\n\n,b,\n", "f.csv").map(({ cells }) => cells)).toEqual([
      ["a", "", ""],
      ["", "b", ""],
    ]);
  });
});
