import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { PolypacaError } from "../errors.js";
import { type BadRecord, badRecordError, fieldNames, type JsonObject, kindOf, type RecordPlace, readJsonRecords } from "./json-records.js";

export interface AlpacaRecord {
  readonly instruction: string;
  /** Empty: none. */
  readonly input: string;
  readonly output: string;
  /** ISO 639 code; {@link undeterminedLanguage} where nothing says it. */
  readonly language: string;
  readonly id: string | null;
  readonly place: RecordPlace;
}

export interface AlpacaFile {
  readonly file: string;
  /** Of the bytes. */
  readonly sha256: string;
  readonly records: readonly AlpacaRecord[];
  /** The records as they stand in the file, with every field; aligned with `records`. */
  readonly values: readonly JsonObject[];
  /** Left out; empty unless `skipBadRecords`. */
  readonly bad: readonly BadRecord[];
}

export interface ReadOptions {
  /** Of records that do not say theirs. */
  readonly language?: string | null;
  /** List malformed records instead of refusing the file. Default: refuse, and do not offer it. */
  readonly skipBadRecords?: boolean;
}

/** ISO 639-3's code for "undetermined". */
export const undeterminedLanguage = "und";

/**
 * Reads Alpaca data, a JSON array or JSONL of `instruction`, `input` (may be missing), `output` and optionally `language` (or `lang`)
 * and `id`. A record's language is its field, else `language`, else the code in a file name such as `alpaca.fi.json`.
 *
 * @throws PolypacaError `BAD_RECORD` naming file, line and column; `BAD_DATA` for no records and for other formats, naming the fields
 *   found; `NOT_FOUND`, `IO`
 */
export async function readAlpaca(file: string, options: ReadOptions = {}): Promise<AlpacaFile> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  return parseAlpaca(bytes, file, options);
}

/** As {@link readAlpaca}, from the file's bytes. */
export function parseAlpaca(bytes: Uint8Array, file: string, { language, skipBadRecords = false }: ReadOptions = {}): AlpacaFile {
  const read = readJsonRecords(bytes, file);
  const first = read.records[0];
  if (first) refuseOtherFormats(first.value, file);
  const bad = [...read.bad];
  const records: AlpacaRecord[] = [];
  const values: JsonObject[] = [];
  const fallback = language ?? languageOfFile(file) ?? undeterminedLanguage;
  for (const { value, place } of read.records) {
    const reason = faultOf(value);
    if (reason === null) {
      records.push(toRecord(value, place, fallback));
      values.push(value);
    } else bad.push({ ...place, reason });
  }
  bad.sort((a, b) => a.index - b.index);
  if (bad.length > 0 && !skipBadRecords) throw badRecordError(bad[0]!);
  if (records.length === 0)
    throw new PolypacaError("BAD_DATA", `${file}: no usable record in ${bad.length}. Give a file with "instruction" and "output" records.`);
  return { file, sha256: createHash("sha256").update(bytes).digest("hex"), records, values, bad };
}

/** The code in `alpaca.<code>.json`, `alpaca_data_cleaned.<code>.json`; null for other names. */
export function languageOfFile(file: string): string | null {
  return /\.([a-z]{2,3})\.jsonl?$/.exec(basename(file))?.[1] ?? null;
}

/** Fields by which other formats are known, for the message. */
const otherFormats = new Map([
  ["conversations", "ShareGPT"],
  ["messages", "chat messages"],
  ["completion", "prompt and completion"],
  ["response", "instruction and response, as Dolly's"],
  ["text", "plain text"],
  ["chosen", "preference pairs"],
]);

function refuseOtherFormats(record: JsonObject, file: string): void {
  if ("instruction" in record && "output" in record) return;
  const known = [...otherFormats].find(([field]) => field in record);
  if (!known && ("instruction" in record || "output" in record)) return; // an Alpaca record that lacks a field
  throw new PolypacaError(
    "BAD_DATA",
    `${file}: not Alpaca data: the first record has the fields ${fieldNames(record)}${known ? ` (${known[1]})` : ""}; "instruction", "input" and "output" were expected. Convert the file.`,
  );
}

/** What keeps a record from being used; null for nothing. */
function faultOf(record: JsonObject): string | null {
  for (const key of ["instruction", "output"]) {
    if (!(key in record)) return `the field "${key}" is missing (found: ${fieldNames(record)})`;
    if (typeof record[key] !== "string") return `"${key}" is ${kindOf(record[key])}, a text was expected`;
  }
  for (const key of ["input", "language", "lang"]) {
    const value = record[key];
    if (value !== undefined && value !== null && typeof value !== "string") return `"${key}" is ${kindOf(value)}, a text was expected`;
  }
  const { id } = record;
  if (id !== undefined && id !== null && typeof id !== "string" && typeof id !== "number")
    return `"id" is ${kindOf(id)}, a text or number was expected`;
  // Records of several turns would lose all but the last one without a word.
  const unused = ["history", "system"].find(
    (key) => (Array.isArray(record[key]) || typeof record[key] === "string") && record[key].length > 0,
  );
  return unused ? `the field "${unused}" is not part of the Alpaca templates` : null;
}

function toRecord(value: JsonObject, place: RecordPlace, fallbackLanguage: string): AlpacaRecord {
  const text = (key: string): string => (typeof value[key] === "string" ? value[key] : "");
  return {
    instruction: text("instruction"),
    input: text("input"),
    output: text("output"),
    language: text("language") || text("lang") || fallbackLanguage,
    id: value.id === undefined || value.id === null ? null : String(value.id),
    place,
  };
}
