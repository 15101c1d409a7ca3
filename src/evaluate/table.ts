/** Tables of text, and how they are written. */
import { formatTable } from "../bench/tables.js";

export interface Table {
  /** Stem of its files. */
  readonly name: string;
  readonly caption: string;
  /** Below the table, a line each. */
  readonly notes: readonly string[];
  /** Numbers stand to the right. */
  readonly columns: readonly { readonly title: string; readonly align?: "left" }[];
  readonly rows: readonly (readonly string[])[];
}

/** What stands in a cell without a value. */
export const noValue = "-";

export function tableAsText({ caption, notes, columns, rows }: Table): string {
  const readable = columns.map((column, index) => ({ ...column, cell: (row: readonly string[]) => row[index]! }));
  return [caption, "", formatTable(readable, rows), ...(notes.length > 0 ? ["", ...notes] : [])].join("\n");
}

/** A `table` with a `tabular` in booktabs style; needs `\usepackage{booktabs}` and UTF-8. */
export function tableAsLatex({ name, caption, notes, columns, rows }: Table): string {
  const line = (cells: readonly string[]): string => `${cells.map(latexCell).join(" & ")} \\\\`;
  return [
    "\\begin{table}",
    "\\centering",
    `\\caption{${[caption, ...notes].map(escapeLatex).join(" ")}}`,
    `\\label{tab:${name}}`,
    `\\begin{tabular}{${columns.map(({ align }) => (align === "left" ? "l" : "r")).join("")}}`,
    "\\toprule",
    line(columns.map(({ title }) => title)),
    "\\midrule",
    ...rows.map(line),
    "\\bottomrule",
    "\\end{tabular}",
    "\\end{table}",
  ].join("\n");
}

function latexCell(text: string): string {
  if (text === noValue) return "--";
  return escapeLatex(text).replaceAll(/(?<=^|[\s[(])-(?=\d)/g, "$$-$$"); // a minus sign, no hyphen
}

const latexCharacters: ReadonlyMap<string, string> = new Map([
  ...["&", "%", "$", "#", "_", "{", "}"].map((character) => [character, `\\${character}`] as const),
  ["\\", "\\textbackslash{}"],
  ["~", "\\textasciitilde{}"],
  ["^", "\\textasciicircum{}"],
  ["<", "\\textless{}"],
  [">", "\\textgreater{}"],
  ["|", "\\textbar{}"],
  ['"', "\\textquotedbl{}"],
]);

/** Plain text for LaTeX: what has a meaning there is printed as itself, line breaks and other controls become spaces. */
export function escapeLatex(text: string): string {
  return text.replaceAll(/[\\&%$#_{}~^<>|"]/g, (character) => latexCharacters.get(character)!).replaceAll(/\p{Cc}+/gu, " ");
}

/** One row of a CSV file for each record; the columns are those of `columns`, in order. */
export function recordsAsCsv<Name extends string>(
  columns: readonly Name[],
  records: readonly Readonly<Record<Name, string | number | null>>[],
): string {
  const lines = [columns, ...records.map((record) => columns.map((name) => record[name]))];
  return lines.map((cells) => cells.map(csvCell).join(",")).join("\n");
}

/** As RFC 4180 quotes; nothing for null. */
function csvCell(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
