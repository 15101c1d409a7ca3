/** Responses to judge and score: our own files, and those of the study's programs. */
import { readFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { type BadRecord, fieldNames, type JsonObject, kindOf, type RecordPlace, readJsonRecords } from "../data/json-records.js";
import type { TestPrompt } from "../data/prompts.js";
import { alpacaTemplates, extractResponse } from "../data/template.js";
import { PolypacaError } from "../errors.js";
import { describePair, idFault, languageFault, type PairKey, pairKey, refuseRows, repeatedRows, textFault } from "./pair-key.js";

/** A response with what is known of the system that gave it; null: the file does not say. */
export interface EvaluatedResponse extends PairKey {
  readonly model: string | null;
  readonly method: string | null;
  readonly condition: string | null;
  readonly seed: number | null;
  readonly prompt: string | null;
  readonly response: string;
  readonly place: RecordPlace;
}

export interface ReadResponsesOptions {
  /** Of rows that have none, in files whose name has none. */
  readonly language?: string | null;
  /** Of rows that have none, in files whose name has none. */
  readonly system?: string | null;
  /** Where the study's LoRA files, which have no ids, get them from: row n answers prompt n of its language. */
  readonly prompts?: readonly TestPrompt[];
}

/**
 * Reads JSONL (or JSON arrays) of responses. Three forms are known by their fields:
 *
 * - `{id, language, system, response, ...}`: what `generate` writes. `language` falls back to `test_<code>.jsonl` in the file's name.
 * - `{instruction, input, response}`: the study's LoRA output, `test-<language>_decoded_by_<run>.jsonl`; language and system are read
 *   from the name, ids from `prompts` by line order, where each instruction must equal its prompt.
 * - `{id, prompt, response}`: the study's full-parameter output, `<model>/test_<language>.jsonl`; the system is the folder's name. The
 *   study left special tokens and whatever follows the answer in there: the response is cut as `generate` cuts it, and they are dropped.
 *
 * @throws PolypacaError `BAD_RECORD` listing rows that are malformed, come twice, or give one system two models, methods or conditions;
 *   `BAD_DATA` for other formats, or where nothing says the language, the system or the ids; `NOT_FOUND`, `IO`
 */
export async function readResponses(files: readonly string[], options: ReadResponsesOptions = {}): Promise<readonly EvaluatedResponse[]> {
  const responses: EvaluatedResponse[] = [];
  for (const file of files) {
    const bytes = await readFile(file).catch((cause: unknown) => {
      throw PolypacaError.from(cause);
    });
    responses.push(...parseResponses(bytes, file, options));
  }
  if (responses.length === 0) throw new PolypacaError("BAD_DATA", `${files.join(", ")}: no responses.`);
  refuseRows("BAD_RECORD", repeatedRows(responses, pairKey, describePair), "Each pair may have one response: leave the others out.");
  refuseRows("BAD_RECORD", mixedSystems(responses), "Two systems seem to share a name: give them names of their own (generate --system).");
  return responses;
}

/** One file; see {@link readResponses}. */
export function parseResponses(bytes: Uint8Array, file: string, options: ReadResponsesOptions = {}): EvaluatedResponse[] {
  const { records, bad } = readJsonRecords(bytes, file);
  const source = sourceOf(records[0]?.value ?? {}, file, options);
  const faults: BadRecord[] = [...bad];
  const responses: EvaluatedResponse[] = [];
  for (const { value, place } of records) {
    const read = source.read(value, place);
    if (typeof read === "string") faults.push({ ...place, reason: read });
    else responses.push(read);
  }
  faults.sort((a, b) => a.index - b.index);
  refuseRows("BAD_RECORD", faults, "Correct the file: a response left out would look like one that was never given.");
  return responses;
}

/** How the rows of a file are read: to a response, or the reason why not. */
interface Source {
  readonly read: (record: JsonObject, place: RecordPlace) => EvaluatedResponse | string;
}

function sourceOf(first: JsonObject, file: string, options: ReadResponsesOptions): Source {
  if ("response" in first && "id" in first) return rowsWithIds(file, options, "system" in first);
  if ("response" in first && "instruction" in first) return studyLoraRows(file, options);
  throw new PolypacaError(
    "BAD_DATA",
    `${file}: not responses: the first record has the fields ${fieldNames(first)}; "id", "language", "system" and "response" were expected.`,
  );
}

function rowsWithIds(file: string, options: ReadResponsesOptions, isOurs: boolean): Source {
  const fallbackLanguage = options.language ?? /^test_([a-z]{2,3})\.jsonl$/.exec(basename(file))?.[1] ?? null;
  const fallbackSystem = options.system ?? (isOurs ? null : basename(dirname(resolve(file))));
  const read = (record: JsonObject, place: RecordPlace): EvaluatedResponse | string => {
    const system = record.system ?? fallbackSystem;
    const language = record.language ?? record.lang ?? fallbackLanguage;
    if (language === null) throw unsaid(file, place, "the language", "Pass --language, or name the file test_<code>.jsonl.");
    const filled = { ...record, system, language };
    const fault = idFault(record.id) ?? textFault(filled, "system") ?? textFault(filled, "language") ?? languageFault(String(language));
    if (fault !== null) return fault;
    if (typeof record.response !== "string") return `"response" is ${kindOf(record.response)}, a text was expected`;
    const { id, response } = record;
    return {
      ...{ id: String(id), language: String(language), system: String(system), place },
      ...{ model: textOrNull(record.model), method: textOrNull(record.method), condition: textOrNull(record.condition) },
      ...{ seed: typeof record.seed === "number" ? record.seed : null, prompt: textOrNull(record.prompt) },
      response: isOurs ? response : cleanStudyResponse(response),
    };
  };
  return { read };
}

function studyLoraRows(file: string, options: ReadResponsesOptions): Source {
  const [, nameLanguage, nameSystem] = /^test-([a-z]{2,3})_decoded_by_(.+)\.jsonl$/.exec(basename(file)) ?? [];
  const language = options.language ?? nameLanguage;
  const system = options.system ?? nameSystem;
  if (language === undefined || system === undefined) {
    const advice = "Name the file test-<language>_decoded_by_<system>.jsonl, or pass --language and --system.";
    throw new PolypacaError("BAD_DATA", `${file}: rows of {instruction, response} do not say their language and system. ${advice}`);
  }
  const prompts = options.prompts?.filter((prompt) => prompt.language === language) ?? [];
  if (prompts.length === 0) {
    const advice = `Pass the ${language} prompts that they answer with --prompts, in the same order.`;
    throw new PolypacaError("BAD_DATA", `${file}: rows of {instruction, response} have no ids. ${advice}`);
  }
  const read = (record: JsonObject, place: RecordPlace): EvaluatedResponse | string => {
    const { instruction, response } = record;
    if (typeof instruction !== "string") return `"instruction" is ${kindOf(instruction)}, a text was expected`;
    if (typeof response !== "string") return `"response" is ${kindOf(response)}, a text was expected`;
    const prompt = prompts[place.index];
    if (prompt === undefined) return `there is no ${language} prompt number ${place.index + 1} among the --prompts`;
    if (prompt.prompt !== instruction) return `the instruction is not that of ${prompt.file} line ${prompt.line}, which it should answer`;
    const key = { id: String(prompt.id), language, system, prompt: instruction, place };
    return { ...key, model: null, method: null, condition: null, seed: null, response: cleanStudyResponse(response) };
  };
  return { read };
}

/** End-of-sequence and padding tokens of the study's models, which its full-parameter program decodes with the text. */
const specialTokens = /(?:\s*(?:<\/s>|<\|endoftext\|>|<pad>|\[PAD\]))+\s*$/;

function cleanStudyResponse(text: string): string {
  return extractResponse(text, alpacaTemplates.fft).replace(specialTokens, "").trim();
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function unsaid(file: string, place: RecordPlace, what: string, advice: string): PolypacaError {
  return new PolypacaError("BAD_DATA", `${file} line ${place.line}: nothing says ${what} of the response. ${advice}`);
}

/** Rows that say something else about their system than its first row; what a row does not say agrees with anything. */
function mixedSystems(responses: readonly EvaluatedResponse[]): BadRecord[] {
  const known = new Map<string, { readonly value: string; readonly place: RecordPlace }>();
  const mixed: BadRecord[] = [];
  for (const { system, place, ...row } of responses) {
    for (const field of ["model", "method", "condition"] as const) {
      const value = row[field];
      if (value === null) continue;
      const key = JSON.stringify([system, field]);
      const before = known.get(key);
      if (before === undefined) known.set(key, { value, place });
      else if (before.value !== value) {
        const reason = `system ${JSON.stringify(system)} has ${field} ${JSON.stringify(value)}, but ${JSON.stringify(before.value)} in ${before.place.file} line ${before.place.line}`;
        mixed.push({ ...place, reason });
      }
    }
  }
  return mixed;
}
