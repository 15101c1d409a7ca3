/**
 * safetensors files: u64 length (little-endian), that many bytes of JSON, then the tensors' bytes without gaps.
 * Headers are read and written here; the bytes themselves are native code's, by offset.
 */
import { type FileHandle, open } from "node:fs/promises";
import { PolypacaError } from "../errors.js";
import { elementCount } from "../families/parameters.js";
import type { TensorInfo, TensorSource } from "../native/addon-types.js";
import { asTensorSource, elementBytes, type StoredTensor } from "./stored-tensor.js";

/** The format's own limit. */
const maxHeaderBytes = 100_000_000;
const lengthBytes = 8;
/** Headers are padded with spaces so that tensors begin at multiples of this. */
const alignment = 8;

/** A header that was found sound: every tensor lies inside the file, none overlaps another, nothing lies between them. */
export interface SafetensorsHeader {
  readonly tensors: readonly StoredTensor[];
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads and checks the header of a safetensors file; element types may be any of the format's.
 *
 * @throws PolypacaError `NOT_FOUND`; `BAD_CHECKPOINT` naming file and tensor where the file is truncated, the header is no JSON or
 *   over 100 MB, or a tensor's type, shape and byte range do not fit together
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const { text, dataStart, fileBytes } = await readHeaderText(path);
  const entries = parseHeader(path, text);
  const metadata = readMetadata(path, entries.get("__metadata__"));
  entries.delete("__metadata__");
  const ranges = [...entries].map(([name, entry]) => readEntry(path, name, entry));
  checkRanges(path, ranges, fileBytes - dataStart);
  return {
    tensors: ranges.map(({ name, dtype, shape, begin }) => ({ name, file: path, offset: dataStart + begin, dtype, shape })),
    metadata,
  };
}

/**
 * The tensors of a safetensors file that holds weights (F32, BF16 or F16) only.
 *
 * @throws PolypacaError as `readSafetensorsHeader`, and `BAD_CHECKPOINT` naming a tensor of another type
 */
export async function readSafetensors(
  path: string,
): Promise<{ readonly sources: TensorSource[]; readonly metadata: Readonly<Record<string, string>> }> {
  const { tensors, metadata } = await readSafetensorsHeader(path);
  return { sources: tensors.map(asTensorSource), metadata };
}

function bad(path: string, what: string, cause?: unknown): PolypacaError {
  return new PolypacaError("BAD_CHECKPOINT", `${path}: ${what}. Copy or download the file again.`, { cause });
}

async function readHeaderText(path: string): Promise<{ text: string; dataStart: number; fileBytes: number }> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (cause) {
    throw PolypacaError.from(cause);
  }
  try {
    const fileBytes = (await file.stat()).size;
    if (fileBytes < lengthBytes) throw bad(path, `${fileBytes} bytes are too few for a safetensors file: it is truncated`);
    const length = Buffer.alloc(lengthBytes);
    await file.read(length, 0, lengthBytes, 0);
    const headerBytes = length.readBigUInt64LE();
    if (headerBytes > maxHeaderBytes)
      throw bad(
        path,
        `its header claims ${headerBytes} bytes, over the format's limit of ${maxHeaderBytes}: this is no safetensors file, or it is corrupt`,
      );
    const dataStart = lengthBytes + Number(headerBytes);
    if (dataStart > fileBytes)
      throw bad(path, `its header claims ${headerBytes} bytes, but the file has ${fileBytes}: it is truncated or corrupt`);
    const header = Buffer.alloc(Number(headerBytes));
    await file.read(header, 0, header.length, lengthBytes);
    return { text: header.toString("utf8"), dataStart, fileBytes };
  } finally {
    await file.close();
  }
}

function parseHeader(path: string, text: string): Map<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw bad(path, `its header is not valid JSON (${(cause as Error).message})`, cause);
  }
  if (!isObject(header)) throw bad(path, "its header is not a JSON object");
  const repeated = firstRepeated(topLevelKeys(text));
  if (repeated !== undefined) throw bad(path, `"${repeated}" stands twice in its header`);
  return new Map(Object.entries(header));
}

/** JSON.parse keeps the last of equal keys quietly. At depth 1 of a header every value is an object, so every string there is a key. */
function topLevelKeys(validJson: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  for (const [token] of validJson.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (depth === 1) keys.push(JSON.parse(token) as string);
  }
  return keys;
}

function firstRepeated(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return undefined;
}

function readMetadata(path: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  const isStringMap = isObject(value) && Object.values(value).every((item) => typeof item === "string");
  if (!isStringMap) throw bad(path, `"__metadata__" is not a map of strings`);
  return value as Record<string, string>;
}

interface TensorRange {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes from the first tensor's. */
  readonly begin: number;
  readonly end: number;
}

function readEntry(path: string, name: string, entry: unknown): TensorRange {
  if (!isObject(entry)) throw bad(path, `the header's entry of "${name}" is not an object`);
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== "string" || !Object.hasOwn(elementBytes, dtype)) {
    throw bad(path, `"${name}" has the element type ${JSON.stringify(dtype)}; known are ${Object.keys(elementBytes).join(", ")}`);
  }
  if (!isSizes(shape)) throw bad(path, `"${name}" has the shape ${JSON.stringify(shape)}; expected a list of sizes`);
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw bad(path, `"${name}" has the offsets ${JSON.stringify(offsets)}; expected [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = elementCount(shape) * elementBytes[dtype]!;
  if (end - begin !== bytes)
    throw bad(path, `"${name}" is ${dtype} [${shape.join(", ")}], which is ${bytes} bytes, but its offsets hold ${end - begin}`);
  return { name, dtype, shape, begin, end };
}

function checkRanges(path: string, ranges: readonly TensorRange[], dataBytes: number): void {
  const sorted = [...ranges].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  let previous = "";
  for (const { name, begin, end } of sorted) {
    if (end > dataBytes)
      throw bad(path, `"${name}" ends at byte ${end} of the data, but the file holds ${dataBytes}: it is truncated or corrupt`);
    if (begin < at) throw bad(path, `"${name}" overlaps "${previous}": it begins at byte ${begin} of the data, before byte ${at}`);
    if (begin > at) throw bad(path, `${begin - at} bytes before "${name}" belong to no tensor`);
    at = end;
    previous = name;
  }
  if (at < dataBytes) throw bad(path, `${dataBytes - at} bytes at its end belong to no tensor`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** A header to write, and where the tensors behind it go. */
export interface SafetensorsLayout {
  /** Length, JSON and padding: the first bytes of the file. */
  readonly header: Uint8Array;
  /** Byte in the file at which each tensor begins, in the order given. */
  readonly offsets: readonly number[];
  /** Of the whole file. */
  readonly fileBytes: number;
}

/**
 * Lays out a safetensors file: the tensors densely, in the order given.
 *
 * @param metadata goes to `__metadata__`; transformers and PEFT insist on `format: "pt"`, the default
 */
export function safetensorsHeader(
  tensors: readonly TensorInfo[],
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): SafetensorsLayout {
  const entries: Record<string, unknown> = { __metadata__: metadata };
  const begins: number[] = [];
  let at = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = at + elementCount(shape) * elementBytes[dtype]!;
    begins.push(at);
    entries[name] = { dtype, shape, data_offsets: [at, end] };
    at = end;
  }
  const json = Buffer.from(JSON.stringify(entries));
  const padded = Math.ceil(json.length / alignment) * alignment;
  const header = Buffer.alloc(lengthBytes + padded, " ");
  header.writeBigUInt64LE(BigInt(padded));
  json.copy(header, lengthBytes);
  return { header, offsets: begins.map((begin) => header.length + begin), fileBytes: header.length + at };
}
