import { describe, expect, it } from "vitest";
import { alignLanguages, refuseForDisjoint } from "../../src/budget/alignment.js";
import type { LanguageData } from "../../src/budget/language-data.js";

/** A file of records, one per line: [id, has an input]. */
function language(code: string, records: readonly (readonly [string | null, boolean?])[]): LanguageData {
  const numbers = Int32Array.from(records, (_, i) => i);
  return {
    ...{ language: code, file: `alpaca.${code}.json`, sha256: "", version: { size: 0, mtimeMs: 0 }, counts: null, bad: [], notes: [] },
    index: {
      ...{ starts: numbers, ends: numbers, lines: numbers.map((i) => i + 1) },
      hasInput: Int32Array.from(records, ([, hasInput = false]) => Number(hasInput)),
      ids: records.map(([id]) => id),
    },
  };
}

describe("alignLanguages", () => {
  it("finds nothing in files that list the same ids, in whatever order", () => {
    const { count, recordOf, findings } = alignLanguages([language("en", [["a"], ["b"], ["c"]]), language("fi", [["c"], ["a"], ["b"]])]);
    expect({ count, findings }).toEqual({ count: 3, findings: [] });
    expect(recordOf.map((records) => [...records])).toEqual([
      [0, 1, 2],
      [1, 2, 0],
    ]);
  });

  it("takes a record without an id by its place", () => {
    const { count, recordOf } = alignLanguages([language("en", [[null], ["1"]]), language("fi", [[null], [null]])]);
    expect(count).toBe(2);
    expect([...recordOf[1]!]).toEqual([0, 1]);
  });

  it("names what one language lacks and what only one has, with lines", () => {
    const { findings, recordOf } = alignLanguages([
      language("en", [["a"], ["b"], ["c"], ["d"]]),
      language("fi", [["a"], ["b"], ["c"], ["d"]]),
      language("zh", [["a"], ["x"], ["y"]]),
    ]);
    expect(findings).toEqual([
      { kind: "missing", language: "zh", count: 3, message: 'alpaca.zh.json: lacks 3 records that other languages have: id "b", "c", "d"' },
      {
        kind: "alone",
        language: "zh",
        count: 2,
        message: 'alpaca.zh.json: 2 records that no other language has: id "x" in line 2, "y" in line 3',
      },
    ]);
    expect([...recordOf[2]!]).toEqual([0, -1, -1, -1, 1, 2]);
  });

  it("says of files without ids that a gap puts the rest out of step, and shows the first places alone", () => {
    const [finding] = alignLanguages([
      language(
        "en",
        Array.from({ length: 6 }, () => [null]),
      ),
      language("fi", [[null], [null]]),
      language(
        "fr",
        Array.from({ length: 6 }, () => [null]),
      ),
    ]).findings;
    expect(finding).toMatchObject({ kind: "missing", language: "fi", count: 4 });
    expect(finding!.message).toMatch(/id "2", "3", "4" and 1 more \(its records have no ids .*out of step\)/);
  });

  it("finds the same id twice in a file", () => {
    const { findings, recordOf } = alignLanguages([language("en", [["a"], ["b"], ["a"]]), language("fi", [["a"], ["b"]])]);
    expect(findings).toEqual([
      {
        kind: "duplicate",
        language: "en",
        count: 1,
        message: 'alpaca.en.json: 1 of 3 records has the id of an earlier one: "a" again in line 3',
      },
    ]);
    expect([...recordOf[0]!]).toEqual([0, 1]);
  });

  it("finds an input where English has none, and the reverse", () => {
    const { findings } = alignLanguages([
      language("bg", [["a", true], ["b"], ["c"]]),
      language("en", [["a"], ["b", true], ["c"]]),
      language("fi", [["a"], ["b", true], ["c"]]),
    ]);
    expect(findings).toHaveLength(1);
    expect(findings[0]).toMatchObject({ kind: "misaligned", language: "bg", count: 2 });
    expect(findings[0]!.message).toContain('"a" has an input (line 1, en line 1), "b" has no input (line 2, en line 2)');
  });

  it("finds nothing to compare in a single language", () => {
    expect(alignLanguages([language("fi", [["a", true]])]).findings).toEqual([]);
  });
});

describe("refuseForDisjoint", () => {
  it("refuses missing records unless they are allowed, and duplicates always", () => {
    const missing = alignLanguages([language("en", [["a"], ["b"]]), language("fi", [["a"]]), language("fr", [["a"], ["b"]])]);
    expect(() => refuseForDisjoint(missing, false)).toThrow(/BAD_DATA|lacks 1 record[\s\S]*--allow-missing/);
    expect(() => refuseForDisjoint(missing, true)).not.toThrow();
    const duplicate = alignLanguages([language("en", [["a"], ["a"]]), language("fi", [["a"]])]);
    expect(() => refuseForDisjoint(duplicate, true)).toThrow(/an id of its own/);
  });

  it("lets through what does not bear on it", () => {
    expect(() => refuseForDisjoint(alignLanguages([language("en", [["a"]]), language("fi", [["a", true]])]), false)).not.toThrow();
  });
});
