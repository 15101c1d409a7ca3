import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { AgreementReport } from "../../src/evaluate/agreement.js";
import { compile, runCli } from "./run-cli.js";

const folder = mkdtempSync(join(tmpdir(), "polypaca-agreement-"));

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const ratings = [
  ...[
    ["a", 1, 3, 3],
    ["a", 2, 3, 2],
  ],
  ...[
    ["b", 1, 2, 3],
    ["b", 2, 2, 2],
  ],
  ...[
    ["c", 1, 1, 1],
    ["c", 2, 1, 2],
  ],
] as const; // system, id, human, judge

let human: string;
let judged: string;

beforeAll(() => {
  compile();
  human = write(
    "human.csv",
    `id,language,system,rating\n${ratings.map(([system, id, rating]) => `${id},en,${system},${rating}\n`).join("")}`,
  );
  const rows = ratings.map(([system, id, , rating]) => ({ id, language: "en", system, judge: "j", rating }));
  judged = write("judged.jsonl", rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
});

describe("polypaca agreement", () => {
  it("joins CSV and JSONL, ids as text, and prints JSON", () => {
    const { exitCode, stdout, stderr } = runCli(["agreement", "--human", human, "--judgements", judged, "--json"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const { judges, raters } = JSON.parse(stdout) as AgreementReport;
    expect(raters).toEqual(["human"]);
    // human means 3 2 1, judge means 2.5 2.5 1.5: r = 1 / sqrt(2 * 2 / 3)
    expect(judges[0]!.languages.en).toMatchObject({
      systems: 3,
      pairs: 6,
      pearson: { value: expect.closeTo(1 / Math.sqrt(4 / 3), 12), interval: null },
    });
  });

  it("prints a table, CSV and LaTeX", () => {
    const args = ["agreement", "--human", human, "--judgements", judged, "--resamples", "200"];
    expect(runCli(args).stdout).toMatch(/^Agreement of judge and human scores.*\n\njudge +language +systems +responses +Pearson/);
    expect(runCli([...args, "--format", "csv"]).stdout).toMatch(/\nj,en,3,6,pearson,0\.866/);
    expect(runCli([...args, "--format", "latex"]).stdout).toMatch(/^\\begin\{table\}/);
  });

  it("refuses bad input with exit code 2", () => {
    const refused = (args: readonly string[], stderr: RegExp): void => {
      expect(runCli(["agreement", ...args])).toMatchObject({ exitCode: 2, stdout: "", stderr: expect.stringMatching(stderr) });
    };
    refused(["--human", join(folder, "no.csv"), "--judgements", judged], /^NOT_FOUND: .*no\.csv/);
    refused(["--human", write("empty.csv", ""), "--judgements", judged], /^BAD_DATA: .*empty\.csv: no scores/);
    refused(
      ["--human", write("columns.csv", "id,system,rating\n1,a,3\n"), "--judgements", judged],
      /^BAD_DATA: .*"language" missing among "id", "system", "rating"/,
    );
    refused(
      ["--human", write("high.csv", "id,language,system,rating\n1,en,a,9\n"), "--judgements", judged],
      /^BAD_RECORD: .*high\.csv line 2, .*9, 1 to 3/,
    );
    refused(["--human", human, human, "--judgements", judged], /^BAD_RECORD: .*was there already/);
    refused(
      ["--human", write("other.csv", "id,language,system,rating\n1,en,z,2\n"), "--judgements", judged],
      /^BAD_DATA: no human score belongs/,
    );
    refused(["--human", human, "--judgements", judged, "--human-scale", "3-1"], /^USAGE: --human-scale 3-1: /);
    refused(["--human", human, "--judgements", human], /^BAD_RECORD: .*human\.csv line 1, column 1: not valid JSON/);
  });
});
