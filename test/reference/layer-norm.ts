/**
 * LayerNorm over the last axis (Ba, Kiros & Hinton 2016, arXiv:1607.06450).
 *   y = (x - mean(x)) / sqrt(var(x) + epsilon) * w + b, with the variance over C (not C - 1)
 * x, y, dy, dx are [N, C] row-major, w, b, dw, db [C], mean, rstd [N].
 */
export interface LayerNormShape {
  readonly N: number;
  readonly C: number;
  readonly epsilon: number;
}

export function layerNormForward(x: ArrayLike<number>, w: ArrayLike<number>, b: ArrayLike<number>, { N, C, epsilon }: LayerNormShape) {
  const y = new Float64Array(N * C);
  const mean = new Float64Array(N);
  const rstd = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    for (let c = 0; c < C; c++) mean[n]! += x[n * C + c]! / C;
    let variance = 0;
    for (let c = 0; c < C; c++) variance += (x[n * C + c]! - mean[n]!) ** 2 / C;
    rstd[n] = 1 / Math.sqrt(variance + epsilon);
    for (let c = 0; c < C; c++) y[n * C + c] = (x[n * C + c]! - mean[n]!) * rstd[n]! * w[c]! + b[c]!;
  }
  return { y, mean, rstd };
}

/**
 * Chain rule through the variance and the mean, one after the other:
 * dVariance = sum(g (x - mean)) (-rstd^3 / 2) and dMean = -rstd sum(g), where g = dy w; the variance does not depend on the mean to first order.
 */
export function layerNormBackward(dy: ArrayLike<number>, x: ArrayLike<number>, w: ArrayLike<number>, shape: LayerNormShape) {
  const { N, C } = shape;
  const { mean, rstd } = layerNormForward(x, w, new Float64Array(C), shape);
  const dx = new Float64Array(N * C);
  const dw = new Float64Array(C);
  const db = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const m = mean[n]!;
    const r = rstd[n]!;
    let dVariance = 0;
    let dMean = 0;
    for (let c = 0; c < C; c++) {
      const centred = x[n * C + c]! - m;
      const g = dy[n * C + c]! * w[c]!;
      dw[c]! += dy[n * C + c]! * centred * r;
      db[c]! += dy[n * C + c]!;
      dVariance += g * centred * (-(r ** 3) / 2);
      dMean -= g * r;
    }
    for (let c = 0; c < C; c++) {
      const centred = x[n * C + c]! - m;
      dx[n * C + c] = dy[n * C + c]! * w[c]! * r + (dVariance * 2 * centred) / C + dMean / C;
    }
  }
  return { dx, dw, db };
}
