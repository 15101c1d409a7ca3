/** The source records cut into segments, each different segment once. */
import { setImmediate } from "node:timers/promises";
import type { AlpacaRecord } from "../data/alpaca.js";
import type { JsonObject } from "../data/json-records.js";
import { textHash } from "../endpoint/text-hash.js";
import { PolypacaError } from "../errors.js";
import { planText, type TextPlan } from "./plan-text.js";

/** What is translated of a record. */
export const translatedFields = ["instruction", "input", "output"] as const;
export type TranslatedField = (typeof translatedFields)[number];

interface PlannedField {
  readonly plan: TextPlan;
  /** Of its segments, in the corpus. */
  readonly indices: readonly number[];
}

export interface PlannedRecord {
  readonly record: AlpacaRecord;
  /** As it stands in the file, with every field. */
  readonly value: JsonObject;
  /** Absent: nothing in the field is to be translated, it stays as it is. */
  readonly fields: Readonly<Partial<Record<TranslatedField, PlannedField>>>;
}

export interface Corpus {
  readonly records: readonly PlannedRecord[];
  /** Different from each other, in order of first appearance. */
  readonly segments: readonly string[];
  /** Of the segments. */
  readonly hashes: readonly string[];
}

export interface CorpusOptions {
  readonly language: string;
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
}

/**
 * All records in order; the event loop runs in between.
 *
 * @param values aligned with `records`
 * @throws PolypacaError `CANCELLED`
 */
export async function planCorpus(
  records: readonly AlpacaRecord[],
  values: readonly JsonObject[],
  options: CorpusOptions,
  signal?: AbortSignal,
): Promise<Corpus> {
  const indexOf = new Map<string, number>();
  const register = (segment: string): number => {
    const known = indexOf.get(segment);
    if (known !== undefined) return known;
    indexOf.set(segment, indexOf.size);
    return indexOf.size - 1;
  };
  const planned: PlannedRecord[] = [];
  for (const [at, record] of records.entries()) {
    if (at % 256 === 0) await setImmediate();
    if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while the data was cut into segments; nothing was asked for yet.");
    const fields: Partial<Record<TranslatedField, PlannedField>> = {};
    for (const field of translatedFields) {
      if (record[field] === "") continue;
      const plan = planText(record[field], options);
      if (plan.segments.length > 0) fields[field] = { plan, indices: plan.segments.map(register) };
    }
    planned.push({ record, value: values[at]!, fields });
  }
  const segments = [...indexOf.keys()];
  return { records: planned, segments, hashes: segments.map(textHash) };
}

/** A record in the target language. */
export interface AssembledRecord {
  readonly instruction: string;
  readonly input: string;
  readonly output: string;
  /** Protected pieces that its translation dropped. */
  readonly lost: readonly string[];
}

/** @param translation of a segment by its index; each of the record's has one */
export function assembleRecord({ record, fields }: PlannedRecord, translation: (index: number) => string): AssembledRecord {
  const texts = { instruction: record.instruction, input: record.input, output: record.output };
  const lost: string[] = [];
  for (const field of translatedFields) {
    const planned = fields[field];
    if (planned === undefined) continue;
    const assembled = planned.plan.assemble(planned.indices.map(translation));
    texts[field] = assembled.text;
    lost.push(...assembled.lost);
  }
  return { ...texts, lost };
}

/** Of some fields of a record, or of all. */
export function segmentsOf({ fields }: PlannedRecord, which: readonly TranslatedField[] = translatedFields): number[] {
  return which.flatMap((field) => fields[field]?.indices ?? []);
}
