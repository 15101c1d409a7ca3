/** `alpaca.<lang>.json`: the translated records, in the order of the source. */
import { writeFileAtomic } from "../checkpoint/atomic.js";
import type { JsonObject } from "../data/json-records.js";
import type { AssembledRecord, PlannedRecord } from "./corpus.js";

/**
 * Where some records of the source are left out, those without an id get their place in the source's file as `id`, counted from 0: by it
 * the languages can still be joined.
 */
export async function writeLanguage(
  path: string,
  language: string,
  records: readonly PlannedRecord[],
  assemble: (planned: PlannedRecord) => AssembledRecord,
): Promise<void> {
  const isPartial = records.some(({ record }, index) => record.place.index !== index);
  await writeFileAtomic(
    path,
    jsonArray(records, (planned) => outputRecord(planned, assemble(planned), language, isPartial)),
  );
}

/** An array with a record of two spaces' indentation at a time. */
function* jsonArray<T>(items: readonly T[], toRecord: (item: T) => JsonObject): Generator<string> {
  const piece: string[] = [];
  for (const [index, item] of items.entries()) {
    const json = JSON.stringify(toRecord(item), null, 2).replaceAll("\n", "\n  ");
    piece.push(`${index === 0 ? "[\n" : ",\n"}  ${json}`);
    if (piece.length < 512) continue;
    yield piece.join("");
    piece.length = 0;
  }
  yield `${piece.join("")}${items.length === 0 ? "[" : ""}\n]\n`;
}

/** The fields in the source's order, the translated ones and the language replaced. */
function outputRecord({ record, value }: PlannedRecord, translated: AssembledRecord, language: string, isPartial: boolean): JsonObject {
  const { instruction, input, output } = translated;
  const id = isPartial && record.id === null ? { id: record.place.index } : {};
  const texts = { instruction, ...("input" in value && value.input !== null && { input }), output };
  const codes = Object.fromEntries(
    ["language", "lang"].filter((field) => typeof value[field] === "string").map((field) => [field, language]),
  );
  return { ...id, ...value, ...texts, ...codes, ...id };
}
