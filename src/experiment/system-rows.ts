/** Rows by system: a run's answers may stand for several systems, so that they are generated once and named when they are collected. */
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import type { ResponseRow } from "../generate/responses.js";
import type { SystemLabel } from "./job.js";

/** The judge's name where there is none. */
export const uniformJudge = "none (each response counts 1)";

/**
 * Writes the rows of a system's runs under its name, by language and id, so that the file does not depend on the order in which they came.
 *
 * @throws PolypacaError `NOT_FOUND`, `IO`, `DISK_FULL`
 */
export async function writeResponsesOf({ system, condition }: SystemLabel, files: readonly string[], out: string): Promise<void> {
  const rows = (await Promise.all(files.map(readRows<ResponseRow>))).flat();
  const named = rows.map((row) => ({ ...row, system, condition })).sort(compareRows);
  await writeFileAtomic(out, linesOf(named));
}

/** Judgements that count every response 1: what `score` then sums is the responses in their prompt's language. */
export async function writeUniformJudgements(responses: string, out: string): Promise<void> {
  const rows = await readRows<ResponseRow>(responses);
  await writeFileAtomic(out, linesOf(rows.map(({ id, language, system }) => ({ id, language, system, judge: uniformJudge, rating: 1 }))));
}

async function readRows<Row>(file: string): Promise<Row[]> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Row);
}

function compareRows(a: ResponseRow, b: ResponseRow): number {
  if (a.language !== b.language) return a.language < b.language ? -1 : 1;
  const [left, right] = [Number(a.id), Number(b.id)];
  if (left !== right && !Number.isNaN(left) && !Number.isNaN(right)) return left - right;
  return String(a.id) < String(b.id) ? -1 : 1;
}

function linesOf(rows: readonly object[]): string[] {
  return rows.map((row) => `${JSON.stringify(row)}\n`);
}
