/** Scores to tokens as transformers' generate() has it, in double precision and one score at a time. */

export interface TokenChoice {
  readonly logSums: Float64Array;
  readonly scores: Float64Array;
  /** [rows, count], best first, ties to the smaller token. */
  readonly best: Float64Array;
  readonly tokens: Int32Array;
}

export interface Changes {
  readonly logProbabilities: boolean;
  readonly repetitionPenalty: number;
  /** Pairs (row, token). */
  readonly penalised: Int32Array;
  readonly banned: Int32Array;
}

export function chooseTokens(given: ArrayLike<number>, V: number, count: number, changes: Changes): TokenChoice {
  const scores = Float64Array.from(given);
  const rows = scores.length / V;
  const logSums = Float64Array.from({ length: rows }, (_, r) => {
    const row = scores.subarray(r * V, (r + 1) * V);
    const largest = row.reduce((a, b) => Math.max(a, b));
    return largest + Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0));
  });
  if (changes.logProbabilities) for (let i = 0; i < scores.length; i++) scores[i]! -= logSums[Math.floor(i / V)]!;
  for (const at of places(changes.penalised, V)) {
    scores[at] = scores[at]! < 0 ? scores[at]! * changes.repetitionPenalty : scores[at]! / changes.repetitionPenalty;
  }
  for (const at of places(changes.banned, V)) scores[at] = Number.NEGATIVE_INFINITY;
  const best = new Float64Array(rows * count);
  const tokens = new Int32Array(rows * count);
  for (let r = 0; r < rows; r++) {
    const order = Array.from({ length: V }, (_, v) => v).sort((a, b) => scores[r * V + b]! - scores[r * V + a]! || a - b);
    for (let i = 0; i < count; i++) {
      tokens[r * count + i] = order[i]!;
      best[r * count + i] = scores[r * V + order[i]!]!;
    }
  }
  return { logSums, scores, best, tokens };
}

function places(pairs: Int32Array, V: number): number[] {
  return Array.from({ length: pairs.length / 2 }, (_, i) => pairs[2 * i]! * V + pairs[2 * i + 1]!);
}
