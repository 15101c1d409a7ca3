/**
 * RMSNorm over the last axis (Zhang & Sennrich 2019, arXiv:1910.07467), epsilon inside the root.
 *   y = x / sqrt(mean(x^2) + epsilon) * w
 * x, y, dy, dx are [N, C] row-major, w, dw [C], rstd [N].
 */
export interface RmsNormShape {
  readonly N: number;
  readonly C: number;
  readonly epsilon: number;
}

export function rmsNormForward(x: ArrayLike<number>, w: ArrayLike<number>, { N, C, epsilon }: RmsNormShape) {
  const y = new Float64Array(N * C);
  const rstd = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    let sumOfSquares = 0;
    for (let c = 0; c < C; c++) sumOfSquares += x[n * C + c]! ** 2;
    rstd[n] = 1 / Math.sqrt(sumOfSquares / C + epsilon);
    for (let c = 0; c < C; c++) y[n * C + c] = x[n * C + c]! * rstd[n]! * w[c]!;
  }
  return { y, rstd };
}

/** d rstd / d x[c] = -rstd^3 x[c] / C, hence the second term of dx. */
export function rmsNormBackward(dy: ArrayLike<number>, x: ArrayLike<number>, w: ArrayLike<number>, shape: RmsNormShape) {
  const { N, C } = shape;
  const { rstd } = rmsNormForward(x, w, shape);
  const dx = new Float64Array(N * C);
  const dw = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const r = rstd[n]!;
    let dRstd = 0;
    for (let c = 0; c < C; c++) {
      dw[c]! += dy[n * C + c]! * x[n * C + c]! * r;
      dRstd += dy[n * C + c]! * w[c]! * x[n * C + c]!;
    }
    for (let c = 0; c < C; c++) dx[n * C + c] = dy[n * C + c]! * w[c]! * r - (dRstd * r ** 3 * x[n * C + c]!) / C;
  }
  return { dx, dw };
}
