/** What responses, judgements and human scores are joined by, and how what is wrong with their rows is reported. */
import { type BadRecord, describeBadRecord, type JsonObject, kindOf, type RecordPlace } from "../data/json-records.js";
import { type ErrorCode, PolypacaError } from "../errors.js";

/** The key of a row: one prompt in one language, answered by one system. */
export interface PairKey {
  readonly system: string;
  /** ISO 639 code. */
  readonly language: string;
  /** As text: 7 and "7" are one id. */
  readonly id: string;
}

export function pairKey({ system, language, id }: PairKey): string {
  return JSON.stringify([system, language, id]);
}

export function describePair({ system, language, id }: PairKey): string {
  return `system ${JSON.stringify(system)}, language ${language}, id ${JSON.stringify(id)}`;
}

const maxListed = 10;

/** Throws where there are any: all in one message, the first ten in full. */
export function refuseRows(code: ErrorCode, rows: readonly BadRecord[], mend: string): void {
  if (rows.length === 0) return;
  const listed = rows.slice(0, maxListed).map(describeBadRecord);
  const more = rows.length > maxListed ? [`and ${rows.length - maxListed} more`] : [];
  throw new PolypacaError(code, `${[...listed, ...more].join("\n")}\n${mend}`);
}

/** Rows that come a second time under the same key. */
export function repeatedRows<Row extends { readonly place: RecordPlace }>(
  rows: readonly Row[],
  keyOf: (row: Row) => string,
  describe: (row: Row) => string,
): BadRecord[] {
  const first = new Map<string, RecordPlace>();
  const repeated: BadRecord[] = [];
  for (const row of rows) {
    const key = keyOf(row);
    const earlier = first.get(key);
    if (earlier === undefined) first.set(key, row.place);
    else repeated.push({ ...row.place, reason: `${describe(row)} was there already (${earlier.file} line ${earlier.line})` });
  }
  return repeated;
}

/** A field that must be a text that is not empty, or why it is not. */
export function textFault(record: JsonObject, field: string): string | null {
  const value = record[field];
  if (value === undefined) return `the field "${field}" is missing`;
  if (typeof value !== "string") return `"${field}" is ${kindOf(value)}, a text was expected`;
  return value === "" ? `"${field}" is empty` : null;
}

/** The fault of an id; whole numbers and texts are ids. */
export function idFault(value: unknown): string | null {
  if (value === undefined) return 'the field "id" is missing';
  if (typeof value === "string") return value === "" ? '"id" is empty' : null;
  if (Number.isSafeInteger(value)) return null;
  return `"id" is ${typeof value === "number" ? value : kindOf(value)}, a text or whole number was expected`;
}

/** The fault of a language code. */
export function languageFault(code: string): string | null {
  return /^[a-z]{2,3}$/.test(code)
    ? null
    : `language ${JSON.stringify(code)} is no code such as "en" (ISO 639: two or three small letters)`;
}
