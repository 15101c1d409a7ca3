import { PolypacaError } from "../errors.js";

/** Where each record's JSON lies in a file's bytes: [start, end). */
export interface RecordRanges {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
}

const [quote, backslash, comma, lineFeed] = [0x22, 0x5c, 0x2c, 0x0a];
const colon = 0x3a;
const [openBracket, closeBracket, openBrace, closeBrace] = [0x5b, 0x5d, 0x7b, 0x7d];

/**
 * Byte ranges of the records of a file that `readJsonRecords` has read, malformed ones included, so that single records can be read
 * again later without the rest: entry i belongs to the record whose `place.index` is i. Space around a record is in its range.
 *
 * @param bytes at most 2 GiB, what Node reads at once
 */
export function recordRanges(bytes: Uint8Array): RecordRanges {
  const start = startsWithByteOrderMark(bytes) ? 3 : 0;
  const first = bytes.findIndex((byte, i) => i >= start && !isJsonSpace(byte));
  return bytes[first] === openBracket ? elementRanges(bytes, first) : lineRanges(bytes, start);
}

function startsWithByteOrderMark(bytes: Uint8Array): boolean {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
}

function isJsonSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

/** Of a valid JSON array: between its brackets and the commas on its own level. */
function elementRanges(bytes: Uint8Array, open: number): RecordRanges {
  const starts: number[] = [];
  const ends: number[] = [];
  let depth = 1;
  let start = open + 1;
  const close = (at: number): void => {
    starts.push(start);
    ends.push(at);
    start = at + 1;
  };
  for (let i = start; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === quote) i = closingQuote(bytes, i);
    else if (byte === openBrace || byte === openBracket) depth++;
    else if (byte === closeBrace || byte === closeBracket) {
      depth--;
      if (depth > 0) continue;
      if (starts.length > 0 || bytes.subarray(start, i).some((inside) => !isJsonSpace(inside))) close(i);
      return { starts: Int32Array.from(starts), ends: Int32Array.from(ends) };
    } else if (byte === comma && depth === 1) close(i);
  }
  throw new PolypacaError("INTERNAL", "a JSON array was read and yet has no end");
}

function closingQuote(bytes: Uint8Array, open: number): number {
  let i = open + 1;
  while (bytes[i] !== quote && i < bytes.length) i += bytes[i] === backslash ? 2 : 1;
  return i;
}

/** Lines that are not blank. */
function lineRanges(bytes: Uint8Array, from: number): RecordRanges {
  const starts: number[] = [];
  const ends: number[] = [];
  const decoder = new TextDecoder();
  for (let start = from; start < bytes.length; ) {
    const found = bytes.indexOf(lineFeed, start);
    const end = found < 0 ? bytes.length : found;
    // Blank as readJsonRecords has it: JavaScript's white space, of which some is no JSON and several bytes long.
    if (bytes[start] === openBrace || /\S/.test(decoder.decode(bytes.subarray(start, end)))) {
      starts.push(start);
      ends.push(end);
    }
    start = end + 1;
  }
  return { starts: Int32Array.from(starts), ends: Int32Array.from(ends) };
}

/**
 * Calls `visit` with the byte range of each value of a JSON object's own fields, in their order (of a field that comes twice the last
 * holds, as for JSON.parse).
 *
 * @param bytes valid JSON between `start` and `end`, space around it allowed
 * @returns false where that is no object
 */
export function visitFields(bytes: Buffer, start: number, end: number, visit: (name: string, from: number, to: number) => void): boolean {
  let at = afterSpace(bytes, start);
  if (bytes[at] !== openBrace) return false;
  at = afterSpace(bytes, at + 1);
  while (bytes[at] === quote && at < end) {
    const close = closingQuote(bytes, at);
    const key = bytes.toString("utf8", at, close + 1);
    const name = key.includes("\\") ? (JSON.parse(key) as string) : key.slice(1, -1);
    const from = afterSpace(bytes, afterSpace(bytes, close + 1) + 1);
    if (bytes[afterSpace(bytes, close + 1)] !== colon) return false;
    const to = valueEnd(bytes, from, end);
    if (to > end) return false;
    visit(name, from, to);
    at = afterSpace(bytes, to);
    if (bytes[at] === comma) at = afterSpace(bytes, at + 1);
  }
  return bytes[at] === closeBrace && at < end;
}

function afterSpace(bytes: Uint8Array, at: number): number {
  while (at < bytes.length && isJsonSpace(bytes[at]!)) at++;
  return at;
}

/** Where the value that begins at `from` ends. */
function valueEnd(bytes: Uint8Array, from: number, end: number): number {
  if (bytes[from] === quote) return closingQuote(bytes, from) + 1;
  let depth = 0;
  for (let i = from; i < end; i++) {
    const byte = bytes[i]!;
    if (byte === quote) i = closingQuote(bytes, i);
    else if (byte === openBrace || byte === openBracket) depth++;
    else if (byte === closeBrace || byte === closeBracket) {
      if (depth === 0) return i; // of a number or word, by the object's own brace
      depth--;
      if (depth === 0) return i + 1;
    } else if (depth === 0 && (byte === comma || isJsonSpace(byte))) return i;
  }
  return end;
}
