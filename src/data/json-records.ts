/**
 * Records of JSON arrays and JSONL files, each with the place it came from, so that whatever is wrong with one can be reported by file,
 * line and column. JSON.parse does the reading; the scanner below only finds places.
 */
import { isUtf8 } from "node:buffer";
import { PolypacaError } from "../errors.js";

export type JsonObject = { readonly [key: string]: unknown };

/** Where a record stands; lines and columns count from 1, columns in UTF-16 units. */
export interface RecordPlace {
  readonly file: string;
  /** Among the file's records, from 0. */
  readonly index: number;
  readonly line: number;
  readonly column: number;
}

/** A record that cannot be used. */
export interface BadRecord extends RecordPlace {
  readonly reason: string;
}

export interface JsonRecords {
  readonly records: readonly { readonly value: JsonObject; readonly place: RecordPlace }[];
  /** Lines of a JSONL file that are no JSON object. */
  readonly bad: readonly BadRecord[];
}

export function badRecordError(
  bad: BadRecord,
  mend = "Correct it, or pass --skip-bad-records to leave it out and have it listed.",
): PolypacaError {
  return new PolypacaError("BAD_RECORD", `${describeBadRecord(bad)}. ${mend}`);
}

export function describeBadRecord({ file, line, column, reason }: BadRecord): string {
  return `${file} line ${line}, column ${column}: ${reason}`;
}

/** "instruction", "input": the fields of a record, for messages about formats. */
export function fieldNames(value: JsonObject): string {
  const names = Object.keys(value).map((name) => JSON.stringify(name));
  return names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${names.length - 8} more` : names.join(", ") || "none";
}

/**
 * Reads an array of objects, or one object per line (blank lines are no records). A byte order mark, CRLF line ends and a missing
 * last line break do not matter.
 *
 * @param file named in errors
 * @throws PolypacaError `BAD_RECORD` for broken UTF-8 and for a JSON array that does not parse (where its next record would begin is
 *   unknown, so none is skipped); `BAD_DATA` for an empty file and for a single JSON object
 */
export function readJsonRecords(bytes: Uint8Array, file: string): JsonRecords {
  const text = decodeUtf8(bytes, file);
  const start = text.search(/\S/);
  if (start < 0) throw new PolypacaError("BAD_DATA", `${file}: the file is empty, records were expected.`);
  return text[start] === "[" ? readArray(text, start, file) : readLines(text, file);
}

function decodeUtf8(bytes: Uint8Array, file: string): string {
  if (isUtf8(bytes)) return new TextDecoder().decode(bytes);
  const isUtf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  if (isUtf16)
    throw new PolypacaError("BAD_RECORD", `${file}: the file is UTF-16, UTF-8 was expected. Convert it: iconv -f UTF-16 -t UTF-8.`);
  let line = 1;
  let begin = 0;
  for (let end = bytes.indexOf(0x0a); end >= 0 && isUtf8(bytes.subarray(begin, end)); end = bytes.indexOf(0x0a, begin)) {
    begin = end + 1;
    line++;
  }
  throw new PolypacaError("BAD_RECORD", `${file} line ${line}: not valid UTF-8. Convert the file to UTF-8.`);
}

function readLines(text: string, file: string): JsonRecords {
  const records: { value: JsonObject; place: RecordPlace }[] = [];
  const bad: BadRecord[] = [];
  // Only "\n" ends a line: CR, U+2028 and U+2029 may stand inside one.
  text.split("\n").forEach((line, i) => {
    const content = line.search(/\S/);
    if (content < 0) return;
    const place = { file, index: records.length + bad.length, line: i + 1, column: content + 1 };
    try {
      const value: unknown = JSON.parse(line);
      if (isJsonObject(value)) records.push({ value, place });
      else bad.push({ ...place, reason: `a JSON object was expected, found ${kindOf(value)}` });
    } catch {
      const fault = findJsonFault(line);
      bad.push({ ...place, column: fault.offset + 1, reason: `not valid JSON (${fault.reason})` });
    }
  });
  if (records.length === 0) refuseSingleObject(text, file);
  return { records, bad };
}

function refuseSingleObject(text: string, file: string): void {
  try {
    const value: unknown = JSON.parse(text);
    if (!isJsonObject(value)) return;
    throw new PolypacaError(
      "BAD_DATA",
      `${file}: one JSON object with the fields ${fieldNames(value)}; a JSON array of records, or one record per line (JSONL), was expected.`,
    );
  } catch (cause) {
    if (cause instanceof PolypacaError) throw cause; // otherwise the faults found line by line say more
  }
}

function readArray(text: string, start: number, file: string): JsonRecords {
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch {
    const fault = findJsonFault(text);
    const bad = { file, index: 0, ...lineAndColumn(text, fault.offset), reason: `not valid JSON (${fault.reason})` };
    throw badRecordError(bad, "Correct it. Where the array's next record begins is unknown, so this cannot be skipped.");
  }
  const records: { value: JsonObject; place: RecordPlace }[] = [];
  const bad: BadRecord[] = [];
  const places = elementPlaces(text, start, file);
  for (const [index, value] of (values as unknown[]).entries()) {
    const place = places[index]!;
    if (isJsonObject(value)) records.push({ value, place });
    else bad.push({ ...place, reason: `a JSON object was expected, found ${kindOf(value)}` });
  }
  return { records, bad };
}

/** Where the elements of a valid array begin. */
function elementPlaces(text: string, start: number, file: string): RecordPlace[] {
  const places: RecordPlace[] = [];
  const token = /"[^"\\]*(?:\\.[^"\\]*)*"|\n|[[\]{},]|[^\s"[\]{},]+/g;
  let depth = 0;
  let line = 1;
  let lineStart = 0;
  for (let i = text.indexOf("\n"); i >= 0 && i < start; i = text.indexOf("\n", i + 1)) [line, lineStart] = [line + 1, i + 1];
  token.lastIndex = start;
  let expectsElement = false;
  for (let match = token.exec(text); match; match = token.exec(text)) {
    const found = match[0];
    if (found === "\n") {
      line++;
      lineStart = match.index + 1;
      continue;
    }
    if (depth === 1 && expectsElement && found !== "]") {
      places.push({ file, index: places.length, line, column: match.index - lineStart + 1 });
      expectsElement = false;
    }
    if (found === "[" || found === "{") depth++;
    if (found === "]" || found === "}") depth--;
    if (depth === 1 && (found === "," || places.length === 0)) expectsElement = true;
  }
  return places;
}

function lineAndColumn(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  const lineStart = before.lastIndexOf("\n") + 1;
  return { line: before.split("\n").length, column: offset - lineStart + 1 };
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** For messages: what a value is. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  return typeof value === "string" ? "a text" : `a ${typeof value}`;
}

interface JsonFault {
  readonly offset: number;
  readonly reason: string;
}

/** The first place where `text` stops being JSON. Needed because V8's messages name the offset only sometimes. */
function findJsonFault(text: string): JsonFault {
  const scanner = new FaultScanner(text);
  return scanner.scan() ?? { offset: 0, reason: "unknown" };
}

/** A JSON grammar without values: what may come next decides what is wrong. */
class FaultScanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  scan(): JsonFault | null {
    const fault = this.#value();
    if (fault) return fault;
    this.#space();
    return this.#at < this.#text.length ? this.#expected("the end") : null;
  }

  #value(): JsonFault | null {
    this.#space();
    const char = this.#text[this.#at];
    if (char === "{") return this.#container("}", () => this.#member());
    if (char === "[") return this.#container("]", () => this.#value());
    if (char === '"') return this.#string();
    const literal = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)/y;
    literal.lastIndex = this.#at;
    const match = literal.exec(this.#text);
    if (!match) return this.#expected("a value");
    this.#at += match[0].length;
    return null;
  }

  #member(): JsonFault | null {
    this.#space();
    if (this.#text[this.#at] !== '"') return this.#expected("a field name in double quotes");
    const fault = this.#string();
    if (fault) return fault;
    this.#space();
    if (this.#text[this.#at] !== ":") return this.#expected('":"');
    this.#at++;
    return this.#value();
  }

  #container(close: string, item: () => JsonFault | null): JsonFault | null {
    this.#at++;
    this.#space();
    if (this.#text[this.#at] === close) {
      this.#at++;
      return null;
    }
    for (;;) {
      const fault = item();
      if (fault) return fault;
      const afterText = this.#text[this.#at - 1] === '"';
      if (afterText && this.#text[this.#at] === '"') return { offset: this.#at, reason: "a second closing quote" };
      this.#space();
      const char = this.#text[this.#at];
      if (char !== "," && char !== close) return this.#expected(`"," or "${close}"`);
      this.#at++;
      if (char === close) return null;
    }
  }

  #string(): JsonFault | null {
    const begin = this.#at++;
    for (;;) {
      const char = this.#text[this.#at];
      if (char === undefined) return { offset: begin, reason: "a text that is never closed" };
      if (char === '"') break;
      if (char < " ") return { offset: this.#at, reason: `a bare ${controlName(char)} inside a text, which must be escaped` };
      if (char === "\\" && !/^\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/.test(this.#text.slice(this.#at, this.#at + 6))) {
        return { offset: this.#at, reason: `the unknown escape ${JSON.stringify(this.#text.slice(this.#at, this.#at + 2))}` };
      }
      this.#at += char === "\\" ? 2 : 1;
    }
    this.#at++;
    return null;
  }

  #space(): void {
    while (" \t\n\r".includes(this.#text[this.#at] ?? "x")) this.#at++;
  }

  #expected(what: string): JsonFault {
    const char = this.#text[this.#at];
    return { offset: this.#at, reason: `${what} was expected, found ${char === undefined ? "the end" : JSON.stringify(char)}` };
  }
}

function controlName(char: string): string {
  return (
    { "\n": "line break", "\r": "carriage return", "\t": "tab" }[char] ??
    `control character U+${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  );
}
