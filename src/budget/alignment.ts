/**
 * Whether the languages' files hold the same seed instructions: what is missing, duplicate or out of step between them. A record is
 * identified by its `id`, where it has none by its place in its file, from 0.
 *
 * What can be seen without understanding the texts: an id twice in a file, an id that some files lack, and a pair of records under
 * the same id of which one has an input and the other has none, since translating leaves empty fields empty. Files out of step by a
 * record show themselves by many of the last kind.
 */
import { PolypacaError } from "../errors.js";
import type { LanguageData, RecordIndex } from "./language-data.js";
import type { SeedTable } from "./sampling.js";

/** Something about the files that does not fit together. */
export interface Finding {
  /** `alone`: ids that no other language has. */
  readonly kind: "duplicate" | "missing" | "alone" | "misaligned";
  readonly language: string;
  /** Records (for `missing`: seed instructions) it is true of. */
  readonly count: number;
  /** With the first places. */
  readonly message: string;
}

export interface Alignment extends SeedTable {
  readonly findings: readonly Finding[];
}

const shown = 3;

/** @param languages at least one; `en`, else the first, is what the others are compared with */
export function alignLanguages(languages: readonly LanguageData[]): Alignment {
  const { ids, recordOf, duplicates } = tableOf(languages);
  const holders = Int32Array.from(ids, (_, seed) => recordOf.filter((records) => records[seed]! >= 0).length);
  const reference = Math.max(
    0,
    languages.findIndex(({ language }) => language === "en"),
  );
  const findings: Finding[] = [];
  for (const [i, data] of languages.entries()) {
    const records = recordOf[i]!;
    const seedsWhere = (test: (seed: number) => boolean): number[] => [...ids.keys()].filter(test);
    findings.push(
      ...duplicateFinding(data, duplicates[i]!),
      ...missingFinding(
        data,
        seedsWhere((seed) => records[seed]! < 0 && holders[seed]! > 1).map((seed) => ids[seed]!),
      ),
    );
    if (languages.length === 1) continue;
    findings.push(
      ...aloneFinding(
        data,
        seedsWhere((seed) => records[seed]! >= 0 && holders[seed] === 1).map((seed) => records[seed]!),
      ),
    );
    if (i !== reference) findings.push(...misalignedFinding(data, records, languages[reference]!, recordOf[reference]!));
  }
  return { count: ids.length, recordOf, findings };
}

/** The id that a record goes by. */
export function recordId({ ids }: RecordIndex, record: number): string {
  return ids[record] ?? String(record);
}

interface Table {
  /** By seed instruction, in the order in which they first come. */
  readonly ids: readonly string[];
  readonly recordOf: readonly Int32Array[];
  /** By language: the records whose id an earlier one of the file has. */
  readonly duplicates: readonly (readonly number[])[];
}

function tableOf(languages: readonly LanguageData[]): Table {
  const numbers = new Map<string, number>();
  const seedOf = languages.map(({ index }) =>
    Int32Array.from(index.starts, (_, record) => {
      const id = recordId(index, record);
      const known = numbers.get(id) ?? numbers.size;
      numbers.set(id, known);
      return known;
    }),
  );
  const duplicates: number[][] = languages.map(() => []);
  const recordOf = seedOf.map((seeds, i) => {
    const records = new Int32Array(numbers.size).fill(-1);
    seeds.forEach((seed, record) => {
      if (records[seed]! < 0) records[seed] = record;
      else duplicates[i]!.push(record);
    });
    return records;
  });
  return { ids: [...numbers.keys()], recordOf, duplicates };
}

function duplicateFinding({ language, file, index }: LanguageData, records: readonly number[]): Finding[] {
  if (records.length === 0) return [];
  const places = records.slice(0, shown).map((record) => `"${recordId(index, record)}" again in line ${index.lines[record]}`);
  const message = `${file}: ${records.length} of ${counted(index.starts.length)} ${has(records.length)} the id of an earlier one: ${listed(places, records.length)}`;
  return [{ kind: "duplicate", language, count: records.length, message }];
}

function missingFinding({ language, file, index }: LanguageData, ids: readonly string[]): Finding[] {
  if (ids.length === 0) return [];
  const hint = index.ids.every((id) => id === null)
    ? " (its records have no ids and go by their places, so those after a gap are out of step)"
    : "";
  const message = `${file}: lacks ${counted(ids.length)} that other languages have: id ${listed(ids.slice(0, shown).map(quoted), ids.length)}${hint}`;
  return [{ kind: "missing", language, count: ids.length, message }];
}

function aloneFinding({ language, file, index }: LanguageData, records: readonly number[]): Finding[] {
  if (records.length === 0) return [];
  const places = records.slice(0, shown).map((record) => `"${recordId(index, record)}" in line ${index.lines[record]}`);
  const message = `${file}: ${counted(records.length)} that no other language has: id ${listed(places, records.length)}`;
  return [{ kind: "alone", language, count: records.length, message }];
}

function misalignedFinding(data: LanguageData, records: Int32Array, reference: LanguageData, others: Int32Array): Finding[] {
  const places: string[] = [];
  let count = 0;
  records.forEach((record, seed) => {
    const other = others[seed]!;
    if (record < 0 || other < 0 || data.index.hasInput[record] === reference.index.hasInput[other]) return;
    const state = data.index.hasInput[record] === 1 ? "has an input" : "has no input";
    if (count++ < shown) {
      const where = `line ${data.index.lines[record]}, ${reference.language} line ${reference.index.lines[other]}`;
      places.push(`"${recordId(data.index, record)}" ${state} (${where})`);
    }
  });
  if (count === 0) return [];
  const message = `${data.file}: ${counted(count)} ${has(count)} an input where ${reference.language} has none, or the reverse, which may not be the same record: id ${listed(places, count)}`;
  return [{ kind: "misaligned", language: data.language, count, message }];
}

/** "1 record", "2 records". */
export function counted(records: number): string {
  return records === 1 ? "1 record" : `${records} records`;
}

/** After a number of records. */
export function has(records: number): "has" | "have" {
  return records === 1 ? "has" : "have";
}

function quoted(id: string): string {
  return `"${id}"`;
}

function listed(places: readonly string[], count: number): string {
  return `${places.join(", ")}${count > places.length ? ` and ${count - places.length} more` : ""}`;
}

/**
 * Refuses files in which the same seed instruction cannot be told from another, for samples in which each may come once.
 *
 * @throws PolypacaError `BAD_DATA` with what was found
 */
export function refuseForDisjoint({ findings }: Alignment, allowMissing: boolean): void {
  const duplicates = findings.filter(({ kind }) => kind === "duplicate");
  const missing = allowMissing ? [] : findings.filter(({ kind }) => kind === "missing" || kind === "alone");
  if (duplicates.length + missing.length === 0) return;
  const advice =
    duplicates.length > 0
      ? "Give every record of a file an id of its own"
      : "Complete the files, or pass --allow-missing to deal each record among the languages that have it";
  throw new PolypacaError(
    "BAD_DATA",
    `--sampling disjoint needs the same records in every language:\n${[...duplicates, ...missing].map(({ message }) => message).join("\n")}\n${advice}.`,
  );
}
