import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readJsonRecords } from "../../src/data/json-records.js";
import { recordRanges, visitFields } from "../../src/data/record-ranges.js";
import { realDataDir, sampleDir } from "./data-folder.js";

/** What stands at the ranges, by record; null where it is no JSON. */
function valuesAtRanges(bytes: Uint8Array): unknown[] {
  const { starts, ends } = recordRanges(bytes);
  const decoder = new TextDecoder();
  return Array.from(starts, (start, i) => {
    try {
      return JSON.parse(decoder.decode(bytes.subarray(start, ends[i]))) as unknown;
    } catch {
      return null;
    }
  });
}

function expectRangesOf(bytes: Uint8Array): void {
  const { records, bad } = readJsonRecords(bytes, "data.json");
  const values = valuesAtRanges(bytes);
  expect(values).toHaveLength(records.length + bad.length);
  for (const { value, place } of records) expect(values[place.index]).toEqual(value);
}

describe("recordRanges", () => {
  it.each([
    ["an array on one line", '[{"a":1},{"b":[1,{"c":"]"}]}]'],
    ["an array with every kind of space", ' \r\n[\t{ "a" : "x,y" }\r\n ,\n{"b":2} \n]\n'],
    ["quotes, backslashes and brackets inside texts", '[{"a":"\\\\"},{"b":"\\"],[{"},{"c":"\\\\\\"}"}]'],
    ["characters of one to four bytes", '[{"a":"é"},{"б":"中"},{"e":"🦙"}]'],
    ["elements that are no objects", '[1,{"a":1},[2,3],null,"x"]'],
    ["a byte order mark", '\ufeff[{"a":1},{"b":2}]'],
    ["lines", '{"a":1}\n{"b":2}\n'],
    ["lines that end with CRLF, the last with nothing", '{"a":1}\r\n{"b":2}'],
    ["blank lines, also of space that is no JSON", '\n{"a":1}\n \t\n\u00a0\u2028\n{"b":2}\n\n'],
    ["a byte order mark before lines", '\ufeff{"a":1}\n{"b":2}'],
    ["malformed lines, which are records too", '{"a":1}\n{"b"\n7\n{"c":3}'],
    ["line breaks of other kinds inside a line", '{"a":"\u2028x"}\r{"b":2}\n{"c":3}\n'],
  ])("finds the records of %s", (_, text) => {
    expectRangesOf(Buffer.from(text));
  });

  it("finds the records of every bundled file", () => {
    for (const name of readdirSync(sampleDir).filter((file) => file.startsWith("alpaca.")))
      expectRangesOf(readFileSync(join(sampleDir, name)));
  });

  it("finds the records of the real files", ({ skip }) => {
    if (!existsSync(realDataDir)) skip("../shared/data is not there");
    const names = readdirSync(realDataDir, { recursive: true, encoding: "utf8" }).filter((name) => /\.jsonl?$/.test(name));
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) expectRangesOf(readFileSync(join(realDataDir, name)));
  });
});

describe("visitFields", () => {
  const fieldsOf = (text: string): Record<string, unknown> | null => {
    const bytes = Buffer.from(`,${text},`);
    const fields: Record<string, unknown> = {};
    const isObject = visitFields(bytes, 1, bytes.length - 1, (name, from, to) => {
      fields[name] = JSON.parse(bytes.toString("utf8", from, to));
    });
    return isObject ? fields : null;
  };

  it.each([
    "{}",
    ' { "a" : "x" , "b":1.5e3,"c":null\n,\t"d":true}\r\n',
    '{"a":"\\"}","b":"\\\\","c":"{[,:"}',
    '{"a":{"a":[1,{"b":"]}"}]},"b":[[],{}],"c":-0}',
    '{"\\u0061\\"":"é\\ud83e\\udd99","б":"🦙"}',
    '{"a":1,"a":"the last one holds"}',
  ])("finds every value of %s", (text) => {
    expect(fieldsOf(text)).toEqual(JSON.parse(text));
  });

  it.each(["[1]", "7", '"x"', "", '{"a"', '{"a":"x', '{"a" "x"}', "{7:1}"])("says that %s is no object", (text) => {
    expect(fieldsOf(text)).toBeNull();
  });

  it("finds every value of the bundled and the real files", () => {
    const files = [
      ...readdirSync(sampleDir)
        .map((name) => join(sampleDir, name))
        .filter((file) => /alpaca\..*\.json$/.test(file)),
      ...["en", "zh"].map((code) => join(realDataDir, `alpaca_${code}_demo.json`)).filter((file) => existsSync(file)),
    ];
    for (const file of files) {
      const bytes = readFileSync(file);
      const { starts, ends } = recordRanges(bytes);
      for (const [i, value] of (JSON.parse(bytes.toString()) as unknown[]).entries()) {
        const fields: Record<string, unknown> = {};
        visitFields(bytes, starts[i]!, ends[i]!, (name, from, to) => {
          fields[name] = JSON.parse(bytes.toString("utf8", from, to));
        });
        expect(fields).toEqual(value);
      }
    }
  });
});
