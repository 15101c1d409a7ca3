/** The data to translate: records of one language. */
import { readFile } from "node:fs/promises";
import { type AlpacaRecord, languageOfFile, parseAlpaca, undeterminedLanguage } from "../data/alpaca.js";
import { describeBadRecord, type JsonObject } from "../data/json-records.js";
import { PolypacaError } from "../errors.js";

export interface SourceSettings {
  /** Alpaca JSON or JSONL. */
  readonly data: string;
  /** Language code; null: the code in the file name (`alpaca.en.json`), else what the records say, else English as in the study. */
  readonly source: string | null;
  /** List malformed records instead of refusing the file. */
  readonly skipBadRecords: boolean;
}

export interface Source {
  readonly language: string;
  readonly records: readonly AlpacaRecord[];
  /** As they stand in the file; aligned with `records`. */
  readonly values: readonly JsonObject[];
}

const studyLanguage = "en";

/**
 * @param note gets a line for each record left out
 * @throws PolypacaError `BAD_RECORD`, `BAD_DATA` as `parseAlpaca`, and for a record that says another language; `NOT_FOUND`, `IO`
 */
export async function readSource(settings: SourceSettings, note: (line: string) => void): Promise<Source> {
  const { data, skipBadRecords } = settings;
  const bytes = await readFile(data).catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  const { records, values, bad } = parseAlpaca(bytes, data, { language: settings.source, skipBadRecords });
  for (const record of bad) note(`left out: ${describeBadRecord(record)}`);
  const said = records[0]!.language;
  const language = settings.source ?? languageOfFile(data) ?? (said === undeterminedLanguage ? studyLanguage : said);
  const other = records.find((record) => record.language !== language && record.language !== undeterminedLanguage);
  if (other !== undefined) {
    const { line } = other.place;
    throw new PolypacaError(
      "BAD_DATA",
      `${data} line ${line}: the record says its language is "${other.language}", the file's is "${language}". Give one language per file, or --source.`,
    );
  }
  return { language, records, values };
}
