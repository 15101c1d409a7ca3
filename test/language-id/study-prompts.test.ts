/** `polypaca score` on the study's prompts, taken as responses in their own languages, against the `fasttext` program, line by line. */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { LanguageCandidates } from "../../src/evaluate/language-match.js";
import { bundledModelFile, codeOfLabel } from "../../src/language-id/index.js";
import { compile, runCli } from "../cli/run-cli.js";
import { realDataDir, temporaryFolder } from "../data/data-folder.js";
import { noFastTextProgram, type ProgramPrediction, predictAll } from "./fasttext-program.js";

const languages = ["bg", "bn", "cs", "en", "es", "fi", "fr", "hi", "no", "ru", "zh"];
const doc = join(import.meta.dirname, "../../docs/language-id.md");

interface Prompt {
  readonly id: string | number;
  readonly language: string;
  readonly prompt: string;
}

/** Read here, not by the reader under test; the one malformed line (a second closing quote) is mended by hand. */
function readPrompts(): Prompt[] {
  return languages.flatMap((language) => {
    const lines = readFileSync(join(realDataDir, `test-data/test_${language}.jsonl`), "utf8").split("\n");
    return lines.filter((line) => line.trim() !== "").map((line): Prompt => ({ ...JSON.parse(line.replace(/""}\s*$/, '"}')), language }));
  });
}

/** A row of languages.jsonl. */
interface IdentifiedRow {
  readonly id: string;
  readonly language: string;
  readonly detected: string | null;
  readonly probability: number;
  readonly match: boolean;
}

interface Scored {
  readonly rows: readonly IdentifiedRow[];
  readonly consistency: ReadonlyMap<string, number>;
}

async function scorePrompts(prompts: readonly Prompt[], candidates: LanguageCandidates): Promise<Scored> {
  const folder = await temporaryFolder();
  await mkdir(join(folder, "in"));
  const files = {
    responses: join(folder, "in/responses.jsonl"),
    judgements: join(folder, "in/judgements.jsonl"),
    out: join(folder, "out"),
  };
  const jsonl = (row: (prompt: Prompt) => object): string =>
    prompts.map((prompt) => `${JSON.stringify({ id: prompt.id, language: prompt.language, system: "echo", ...row(prompt) })}\n`).join("");
  await writeFile(
    files.responses,
    jsonl(({ prompt }) => ({ response: prompt })),
  );
  await writeFile(
    files.judgements,
    jsonl(() => ({ judge: "j", rating: 3 })),
  );
  const args = ["--responses", files.responses, "--judgements", files.judgements, "--candidates", candidates, "--out", files.out];
  const { exitCode, stdout, stderr } = runCli(["score", ...args, "--resamples", "100", "--json"]);
  expect(exitCode, stderr).toBe(0);
  const { systems } = JSON.parse(stdout) as { systems: { languages: Record<string, { consistency: number }> }[] };
  const rows = readFileSync(join(files.out, "languages.jsonl"), "utf8").trimEnd().split("\n");
  return {
    rows: rows.map((row) => JSON.parse(row) as IdentifiedRow),
    consistency: new Map(Object.entries(systems[0]!.languages).map(([language, { consistency }]) => [language, consistency])),
  };
}

/** The row of a rule in the document's table: per cent by language. */
function documented(candidates: LanguageCandidates): number[] {
  const table = readFileSync(doc, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| "));
  const cells = (line: string): string[] =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
  const [header, row] = [
    table.find((line) => line.startsWith("| candidates |"))!,
    table.find((line) => line.startsWith(`| \`${candidates}\` |`))!,
  ];
  expect(cells(header).slice(1)).toEqual([...languages, "all 11"]);
  return cells(row).slice(1).map(Number);
}

const missing = existsSync(realDataDir) ? noFastTextProgram : "../shared/data is not there";

describe.skipIf(missing !== null)(
  `language identification of the study's prompts${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    let prompts: Prompt[];
    let programs: ProgramPrediction[][];

    beforeAll(() => {
      compile();
      prompts = readPrompts();
      expect(prompts).toHaveLength(550);
      // fastText reads a line: what stands in several is put into one.
      programs = predictAll(
        bundledModelFile(),
        prompts.map(({ prompt }) => prompt.replaceAll(/\s+/g, " ").trim()),
      );
    });

    it.each(["all", "expected"] as const)("is the program's on every line, and as documented: candidates %s", async (candidates) => {
      const { rows, consistency } = await scorePrompts(prompts, candidates);
      const right = new Map<string, number>();
      for (const [index, { detected, probability, language, id, match }] of rows.entries()) {
        const may = (label: string): boolean => candidates === "all" || languages.includes(codeOfLabel(label));
        const top = programs[index]!.find(({ label }) => may(label))!;
        expect({ id, language, detected }).toEqual({
          ...{ id: String(prompts[index]!.id), language: prompts[index]!.language },
          detected: codeOfLabel(top.label),
        });
        expect(Math.abs(probability - top.probability), prompts[index]!.prompt).toBeLessThan(1e-5);
        expect(match).toBe(detected === language);
        if (codeOfLabel(top.label) === language) right.set(language, (right.get(language) ?? 0) + 1);
      }
      expect(rows).toHaveLength(550);
      const percent = languages.map((language) => 2 * right.get(language)!);
      expect(languages.map((language) => consistency.get(language)! * 100)).toEqual(percent.map((value) => expect.closeTo(value, 9)));
      const total = (percent.reduce((sum, value) => sum + value) / languages.length).toFixed(1);
      expect([...percent, Number(total)]).toEqual(documented(candidates));
    });
  },
);
