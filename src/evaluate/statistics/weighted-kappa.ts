/** How much two raters agree beyond chance, large disagreements weighing more (Cohen 1968, Psychological Bulletin 70(4)). */

/** Weight of a disagreement between categories i and j; 0 where i = j. */
export type Disagreement = (i: number, j: number) => number;

export const linearDisagreement: Disagreement = (i, j) => Math.abs(i - j);
export const quadraticDisagreement: Disagreement = (i, j) => (i - j) ** 2;

/**
 * kappa = 1 - sum(weight * observed) / sum(weight * expected from the margins).
 *
 * @param table [k][k] counts or shares: how often the first rater chose i and the second j
 * @returns at most 1; null where chance alone leaves no disagreement (an empty table, or both raters always in one category)
 */
export function weightedKappa(table: readonly (readonly number[])[], disagreement: Disagreement): number | null {
  const rows = table.map((row) => row.reduce((sum, count) => sum + count, 0));
  const columns = table.map((_, j) => table.reduce((sum, row) => sum + row[j]!, 0));
  const total = rows.reduce((sum, count) => sum + count, 0);
  let [observed, expected] = [0, 0];
  for (let i = 0; i < table.length; i++) {
    for (let j = 0; j < table.length; j++) {
      observed += disagreement(i, j) * table[i]![j]!;
      expected += (disagreement(i, j) * rows[i]! * columns[j]!) / total;
    }
  }
  return expected > 0 ? 1 - observed / expected : null;
}
