/**
 * Causal scaled dot-product attention on packed sequences (Vaswani et al. 2017, arXiv:1706.03762), with ALiBi biases
 * (Press et al. 2021, arXiv:2108.12409) and grouped queries (Ainslie et al. 2023, arXiv:2305.13245).
 *   score[i, j] = scale q_i . k_j + slope (j - i)  for j <= i of the same sequence;  out_i = sum_j softmax(score[i])_j v_j
 * q, out [N, H, D], k, v [N, G, D]; query head h reads key/value head floor(h / (H / G)).
 */
export interface AttentionShape {
  readonly sequenceLengths: readonly number[];
  readonly H: number;
  readonly G: number;
  readonly D: number;
  readonly scale: number;
  /** [H]; absent for no bias. */
  readonly alibiSlopes?: readonly number[];
}

type Vectors = ArrayLike<number>;

/** lse [N, H]: logarithm of each softmax's denominator, from the full (biased, scaled) scores. */
export function attentionForward(q: Vectors, k: Vectors, v: Vectors, shape: AttentionShape) {
  const { H, G, D } = shape;
  const N = tokensOf(shape);
  const out = new Float64Array(N * H * D);
  const lse = new Float64Array(N * H);
  for (const row of rowsOf(shape)) {
    const { probabilities, logSumExp } = softmaxRow(q, k, row, shape);
    lse[row.token * H + row.head] = logSumExp;
    probabilities.forEach((p, j) => {
      for (let d = 0; d < D; d++) {
        out[(row.token * H + row.head) * D + d]! += p * v[((row.first + j) * G + row.group) * D + d]!;
      }
    });
  }
  return { out, lse };
}

/** Through out = P v and the softmax: dS = P (dP - sum(P dP)), then dq = scale dS k, dk = scale dS^T q. */
export function attentionBackward(dout: Vectors, q: Vectors, k: Vectors, v: Vectors, shape: AttentionShape) {
  const { H, G, D, scale } = shape;
  const N = tokensOf(shape);
  const dq = new Float64Array(N * H * D);
  const dk = new Float64Array(N * G * D);
  const dv = new Float64Array(N * G * D);
  for (const row of rowsOf(shape)) {
    const { probabilities } = softmaxRow(q, k, row, shape);
    const query = (row.token * H + row.head) * D;
    const dP = probabilities.map((_, j) => dot(dout, query, v, ((row.first + j) * G + row.group) * D, D));
    const mean = probabilities.reduce((sum, p, j) => sum + p * dP[j]!, 0);
    probabilities.forEach((p, j) => {
      const key = ((row.first + j) * G + row.group) * D;
      const dScore = p * (dP[j]! - mean);
      for (let d = 0; d < D; d++) {
        dq[query + d]! += scale * dScore * k[key + d]!;
        dk[key + d]! += scale * dScore * q[query + d]!;
        dv[key + d]! += p * dout[query + d]!;
      }
    });
  }
  return { dq, dk, dv };
}

/** Slopes of ALiBi: a geometric sequence for a power of two; for other head counts every other one of the next power's is appended. */
export function alibiSlopes(heads: number): number[] {
  const base = 2 ** Math.floor(Math.log2(heads));
  const slopes = Array.from({ length: base }, (_, i) => 2 ** ((-8 * (i + 1)) / base));
  for (let j = 1; slopes.length < heads; j++) slopes.push(2 ** ((-8 * (2 * j - 1)) / (2 * base)));
  return slopes;
}

/** Position of every token in its sequence. */
export function positionsOf(sequenceLengths: readonly number[]): Int32Array {
  return Int32Array.from(sequenceLengths.flatMap((length) => Array.from({ length }, (_, t) => t)));
}

interface Row {
  readonly token: number;
  /** First token of the sequence. */
  readonly first: number;
  readonly head: number;
  readonly group: number;
}

function tokensOf(shape: AttentionShape): number {
  return shape.sequenceLengths.reduce((sum, length) => sum + length, 0);
}

function* rowsOf({ sequenceLengths, H, G }: AttentionShape): Generator<Row> {
  let first = 0;
  for (const length of sequenceLengths) {
    for (let token = first; token < first + length; token++) {
      for (let head = 0; head < H; head++) yield { token, first, head, group: Math.floor(head / (H / G)) };
    }
    first += length;
  }
}

function softmaxRow(q: Vectors, k: Vectors, row: Row, { H, G, D, scale, alibiSlopes: slopes }: AttentionShape) {
  const scores: number[] = [];
  for (let j = row.first; j <= row.token; j++) {
    const bias = slopes ? slopes[row.head]! * (j - row.token) : 0;
    scores.push(scale * dot(q, (row.token * H + row.head) * D, k, (j * G + row.group) * D, D) + bias);
  }
  const max = Math.max(...scores);
  const sum = scores.reduce((total, score) => total + Math.exp(score - max), 0);
  return { probabilities: scores.map((score) => Math.exp(score - max) / sum), logSumExp: max + Math.log(sum) };
}

function dot(a: Vectors, aOffset: number, b: Vectors, bOffset: number, length: number): number {
  let sum = 0;
  for (let d = 0; d < length; d++) sum += a[aOffset + d]! * b[bOffset + d]!;
  return sum;
}
