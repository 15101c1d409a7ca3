/** What judges said of responses. */
import { readFile } from "node:fs/promises";
import { type BadRecord, fieldNames, type JsonObject, kindOf, type RecordPlace, readJsonRecords } from "../data/json-records.js";
import { PolypacaError } from "../errors.js";
import { describePair, idFault, languageFault, type PairKey, pairKey, refuseRows, repeatedRows, textFault } from "./pair-key.js";

/** The judges' scale, ends included. */
export const ratingScale = { min: 1, max: 3 } as const;

export interface Judgement extends PairKey {
  /** The judging model's name. */
  readonly judge: string;
  /** Which of the judge's repeated judgements of the pair; 0 where the row does not say. */
  readonly repeat: number;
  /** 1 to 3; null: the judge's answer had no rating. */
  readonly rating: number | null;
  readonly place: RecordPlace;
}

/**
 * Reads JSONL of `{id, language, system, judge, rating}` and, where a judge was asked several times, `repeat`.
 *
 * @throws PolypacaError `BAD_RECORD` listing rows that are malformed, out of the scale, or come twice; `BAD_DATA` for none and for other
 *   formats; `NOT_FOUND`, `IO`
 */
export async function readJudgements(files: readonly string[]): Promise<readonly Judgement[]> {
  const judgements: Judgement[] = [];
  for (const file of files) {
    const bytes = await readFile(file).catch((cause: unknown) => {
      throw PolypacaError.from(cause);
    });
    judgements.push(...parseJudgements(bytes, file));
  }
  if (judgements.length === 0) throw new PolypacaError("BAD_DATA", `${files.join(", ")}: no judgements.`);
  const keyOf = (row: Judgement): string => JSON.stringify([pairKey(row), row.judge, row.repeat]);
  const describe = (row: Judgement): string => `judge ${JSON.stringify(row.judge)}, repeat ${row.repeat} of ${describePair(row)}`;
  const mend = 'A judge\'s repeated judgements need a "repeat" number each; leave other copies out.';
  refuseRows("BAD_RECORD", repeatedRows(judgements, keyOf, describe), mend);
  return judgements;
}

/** One file; see {@link readJudgements}. */
export function parseJudgements(bytes: Uint8Array, file: string): Judgement[] {
  const { records, bad } = readJsonRecords(bytes, file);
  const first = records[0]?.value ?? {};
  if (records.length > 0 && !("judge" in first) && !("rating" in first)) {
    const expected = '"id", "language", "system", "judge" and "rating" were expected';
    throw new PolypacaError("BAD_DATA", `${file}: not judgements: the first record has the fields ${fieldNames(first)}; ${expected}.`);
  }
  const faults: BadRecord[] = [...bad];
  const judgements: Judgement[] = [];
  for (const { value, place } of records) {
    const reason = faultOf(value);
    if (reason === null) judgements.push(toJudgement(value, place));
    else faults.push({ ...place, reason });
  }
  faults.sort((a, b) => a.index - b.index);
  refuseRows("BAD_RECORD", faults, "Correct the file, or judge again.");
  return judgements;
}

function faultOf(record: JsonObject): string | null {
  const texts = ["system", "language", "judge"].map((field) => textFault(record, field));
  const fault = idFault(record.id) ?? texts.find((text) => text !== null) ?? languageFault(String(record.language));
  if (fault !== null) return fault;
  const { rating, repeat } = record;
  const isRepeat = repeat === undefined || (Number.isSafeInteger(repeat) && (repeat as number) >= 0);
  if (!isRepeat) return `"repeat" is ${JSON.stringify(repeat)}, a whole number was expected`;
  if (rating === null) return null;
  if (typeof rating !== "number") return rating === undefined ? 'the field "rating" is missing' : `"rating" is ${kindOf(rating)}`;
  const { min, max } = ratingScale;
  return rating >= min && rating <= max ? null : `"rating" is ${rating}, ${min} to ${max} (or null) was expected`;
}

function toJudgement(value: JsonObject, place: RecordPlace): Judgement {
  return {
    ...{ id: String(value.id), language: String(value.language), system: String(value.system), judge: String(value.judge) },
    ...{ repeat: typeof value.repeat === "number" ? value.repeat : 0, rating: value.rating as number | null, place },
  };
}
