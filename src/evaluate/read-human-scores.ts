/** What people said of responses. */
import { readFile } from "node:fs/promises";
import { type BadRecord, fieldNames, type JsonObject, kindOf, type RecordPlace, readJsonRecords } from "../data/json-records.js";
import { PolypacaError } from "../errors.js";
import { parseCsv } from "./csv.js";
import { describePair, idFault, languageFault, type PairKey, pairKey, refuseRows, repeatedRows, textFault } from "./pair-key.js";

export interface HumanScore extends PairKey {
  /** Who rated; "human" where the file does not say. */
  readonly rater: string;
  readonly rating: number;
  readonly place: RecordPlace;
}

/** The scale people were given, ends included. */
export interface RatingScale {
  readonly min: number;
  readonly max: number;
}

const requiredFields = ["id", "language", "system", "rating"] as const;

/**
 * Reads CSV (files named .csv; the first line names the columns, in any order) or JSONL of `id`, `language`, `system`, `rating` and, where
 * several people rated, `rater`. Other columns are left alone.
 *
 * @throws PolypacaError `BAD_DATA` for missing columns, naming those found, and for no scores; `BAD_RECORD` listing rows that are malformed,
 *   out of the scale or come twice; `NOT_FOUND`, `IO`
 */
export async function readHumanScores(files: readonly string[], scale: RatingScale): Promise<readonly HumanScore[]> {
  const scores: HumanScore[] = [];
  for (const file of files) {
    const bytes = await readFile(file).catch((cause: unknown) => {
      throw PolypacaError.from(cause);
    });
    scores.push(...parseHumanScores(bytes, file, scale));
  }
  if (scores.length === 0) throw new PolypacaError("BAD_DATA", `${files.join(", ")}: no scores.`);
  const keyOf = (row: HumanScore): string => JSON.stringify([pairKey(row), row.rater]);
  const describe = (row: HumanScore): string => `rater ${JSON.stringify(row.rater)} of ${describePair(row)}`;
  refuseRows("BAD_RECORD", repeatedRows(scores, keyOf, describe), 'Several people\'s scores need a "rater" each; leave other copies out.');
  return scores;
}

/** One file; see {@link readHumanScores}. */
export function parseHumanScores(bytes: Uint8Array, file: string, scale: RatingScale): HumanScore[] {
  const { records, bad } = file.toLowerCase().endsWith(".csv") ? readCsvRecords(bytes, file) : readJsonRecords(bytes, file);
  const first = records[0]?.value ?? {};
  const missing = records.length > 0 ? requiredFields.filter((field) => !(field in first)) : [];
  if (missing.length > 0) {
    const lacking = missing.map((field) => JSON.stringify(field)).join(", ");
    throw new PolypacaError(
      "BAD_DATA",
      `${file}: human scores need "id", "language", "system" and "rating" (and "rater" for several people); ${lacking} missing among ${fieldNames(first)}.`,
    );
  }
  const faults: BadRecord[] = [...bad];
  const scores: HumanScore[] = [];
  for (const { value, place } of records) {
    const reason = faultOf(value, scale);
    if (reason === null) scores.push(toScore(value, place));
    else faults.push({ ...place, reason });
  }
  faults.sort((a, b) => a.index - b.index);
  refuseRows("BAD_RECORD", faults, "Correct the file; another scale than 1 to 3 is told with --human-scale MIN-MAX.");
  return scores;
}

type Records = ReturnType<typeof readJsonRecords>;

/** CSV as objects by the header's names; ratings as numbers. */
function readCsvRecords(bytes: Uint8Array, file: string): Records {
  const [header, ...rows] = parseCsv(new TextDecoder().decode(bytes), file);
  if (header === undefined || rows.length === 0)
    throw new PolypacaError("BAD_DATA", `${file}: no scores: a line of column names, then a line for each score, was expected.`);
  const names = header.cells.map((name) => name.trim());
  const records: Records["records"][number][] = [];
  const bad: BadRecord[] = [];
  for (const [index, { cells, line }] of rows.entries()) {
    const place = { file, index, line, column: 1 };
    if (cells.length !== names.length) {
      bad.push({ ...place, reason: `${cells.length} cells, but the header has ${names.length} columns` });
      continue;
    }
    const value: Record<string, unknown> = Object.fromEntries(names.map((name, at) => [name, cells[at]!.trim()]));
    if ("rating" in value) value.rating = numberOrText(String(value.rating));
    if (value.rater === "") delete value.rater;
    records.push({ value, place });
  }
  return { records, bad };
}

function numberOrText(text: string): number | string {
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

function faultOf(record: JsonObject, { min, max }: RatingScale): string | null {
  const { rating, rater } = record;
  const texts = [textFault(record, "system"), textFault(record, "language"), rater === undefined ? null : textFault(record, "rater")];
  const fault = idFault(record.id) ?? texts.find((text) => text !== null) ?? languageFault(String(record.language));
  if (fault !== null) return fault;
  const shown = typeof rating === "string" ? JSON.stringify(rating) : kindOf(rating);
  if (typeof rating !== "number") return `"rating" is ${shown}, a number was expected`;
  return rating >= min && rating <= max ? null : `"rating" is ${rating}, ${min} to ${max} was expected`;
}

function toScore(value: JsonObject, place: RecordPlace): HumanScore {
  return {
    ...{ id: String(value.id), language: String(value.language), system: String(value.system) },
    ...{ rater: typeof value.rater === "string" ? value.rater : "human", rating: value.rating as number, place },
  };
}
