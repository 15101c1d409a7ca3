/** Reads comma-separated values as RFC 4180 has them, with the line that each record begins on. */
import { PolypacaError } from "../errors.js";

export interface CsvRecord {
  readonly cells: readonly string[];
  /** From 1; a quoted cell may run over several. */
  readonly line: number;
}

/**
 * The records of a file, its header among them; empty lines are none. A byte order mark and CRLF line ends do not matter.
 *
 * @param file named in errors
 * @throws PolypacaError `BAD_RECORD` naming the line of a quoted cell that is not closed, or goes on after its closing quote
 */
export function parseCsv(text: string, file: string): CsvRecord[] {
  const records: CsvRecord[] = [];
  // Each match is one cell with what ends it; "y" makes the first character that fits nothing the end of matching.
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;
  cell.lastIndex = text.startsWith("\uFEFF") ? 1 : 0;
  let line = 1;
  let begun = 1;
  let cells: string[] = [];
  while (cell.lastIndex < text.length || cells.length > 0) {
    const match = cell.exec(text);
    if (match === null)
      throw new PolypacaError(
        "BAD_RECORD",
        `${file} line ${line}: a quote that is not closed, or text beside a quoted cell. Write quotes inside a cell twice.`,
      );
    const [all, quoted, plain, end] = match;
    cells.push(quoted?.replaceAll('""', '"') ?? plain ?? "");
    line += all.split("\n").length - 1;
    if (end === ",") continue;
    if (cells.length > 1 || cells[0] !== "") records.push({ cells, line: begun });
    cells = [];
    begun = line;
  }
  return records;
}
