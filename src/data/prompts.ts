import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { PolypacaError } from "../errors.js";
import type { ReadOptions } from "./alpaca.js";
import { type BadRecord, badRecordError, describeBadRecord, fieldNames, type JsonObject, kindOf, readJsonRecords } from "./json-records.js";

/** A test prompt; (language, id) is unique. */
export interface TestPrompt {
  /** As in the file. */
  readonly id: string | number;
  readonly prompt: string;
  /** ISO 639 code. */
  readonly language: string;
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

export interface TestPrompts {
  /** In the order of the files. */
  readonly prompts: readonly TestPrompt[];
  /** Records left out with `skipBadRecords`. */
  readonly bad: readonly BadRecord[];
  /** The same, in words. */
  readonly notes: readonly string[];
}

export interface ReadPromptsOptions extends ReadOptions {
  /** What the error on a malformed record advises, where the command has no --skip-bad-records. */
  readonly mend?: string;
}

/**
 * Reads test prompts, JSONL of `{id, prompt}`. A prompt's language is its field `language` (or `lang`), else `language`, else the file
 * name's, `test_<code>.jsonl`.
 *
 * @throws PolypacaError `BAD_RECORD` naming file, line and column, also where an id comes twice in a language; `BAD_DATA` for no
 *   prompts, other formats and a language that nothing says; `NOT_FOUND`, `IO`
 */
export async function readPrompts(files: readonly string[], options: ReadPromptsOptions = {}): Promise<TestPrompts> {
  const prompts: TestPrompt[] = [];
  const bad: BadRecord[] = [];
  const places = new Map<string, string>();
  for (const file of files) {
    const bytes = await readFile(file).catch((cause: unknown) => {
      throw PolypacaError.from(cause);
    });
    readFilePrompts(bytes, file, options, { prompts, bad, places });
  }
  if (bad.length > 0 && !options.skipBadRecords) throw badRecordError(bad[0]!, options.mend);
  if (prompts.length === 0) throw new PolypacaError("BAD_DATA", `${files.join(", ")}: no prompts. Give JSONL files of {"id", "prompt"}.`);
  return { prompts, bad, notes: bad.map((record) => `left out: ${describeBadRecord(record)}`) };
}

interface Collected {
  readonly prompts: TestPrompt[];
  readonly bad: BadRecord[];
  /** Where each (language, id) was seen. */
  readonly places: Map<string, string>;
}

function readFilePrompts(bytes: Uint8Array, file: string, options: ReadOptions, { prompts, bad, places }: Collected): void {
  const read = readJsonRecords(bytes, file);
  const found: BadRecord[] = [...read.bad];
  const fallback = options.language ?? /^test_([a-z]{2,3})\.jsonl$/.exec(basename(file))?.[1] ?? null;
  const first = read.records[0];
  if (first && !("id" in first.value) && !("prompt" in first.value)) {
    throw new PolypacaError(
      "BAD_DATA",
      `${file}: not test prompts: the first record has the fields ${fieldNames(first.value)}; "id" and "prompt" were expected.`,
    );
  }
  for (const { value, place } of read.records) {
    const reason = faultOf(value);
    if (reason !== null) {
      found.push({ ...place, reason });
      continue;
    }
    const language = languageField(value) ?? fallback;
    if (language === null) {
      throw new PolypacaError(
        "BAD_DATA",
        `${file} line ${place.line}: nothing says the prompt's language. Pass --language, or name the file test_<code>.jsonl.`,
      );
    }
    const id = value.id as string | number;
    const key = JSON.stringify([language, String(id)]);
    const earlier = places.get(key);
    if (earlier !== undefined) {
      found.push({ ...place, reason: `id ${JSON.stringify(id)} was used for ${language} already (${earlier})` });
      continue;
    }
    places.set(key, `${file} line ${place.line}`);
    prompts.push({ id, prompt: value.prompt as string, language, file, line: place.line });
  }
  bad.push(...found.sort((a, b) => a.index - b.index));
}

function languageField(record: JsonObject): string | null {
  const value = record.language ?? record.lang;
  return typeof value === "string" && value !== "" ? value : null;
}

function faultOf(record: JsonObject): string | null {
  for (const key of ["id", "prompt"]) if (!(key in record)) return `the field "${key}" is missing (found: ${fieldNames(record)})`;
  if (typeof record.id !== "string" && typeof record.id !== "number") return `"id" is ${kindOf(record.id)}, a text or number was expected`;
  return typeof record.prompt === "string" ? null : `"prompt" is ${kindOf(record.prompt)}, a text was expected`;
}
