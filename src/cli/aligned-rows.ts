/** Rows of text in columns two spaces apart; the first column to the left, the others as `align` says. */
export function alignedRows(rows: readonly (readonly string[])[], align: "left" | "right" = "right"): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 || align === "left" ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}
