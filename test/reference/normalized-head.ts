/**
 * Row-normalised output head (NormHead of Baichuan 2, Yang et al. 2023, arXiv:2309.10305): w_hat[v] = w[v] / |w[v]|.
 * w, wHat, dHat, dw [V, C]; inverseNorm [V]. The norm has a floor of 1e-12, so that an all-zero row stays zero.
 */
export function normalizeRows(w: ArrayLike<number>, V: number, C: number) {
  const wHat = new Float64Array(V * C);
  const inverseNorm = new Float64Array(V);
  for (let v = 0; v < V; v++) {
    let sumOfSquares = 0;
    for (let c = 0; c < C; c++) sumOfSquares += w[v * C + c]! ** 2;
    inverseNorm[v] = 1 / Math.max(Math.sqrt(sumOfSquares), 1e-12);
    for (let c = 0; c < C; c++) wHat[v * C + c] = w[v * C + c]! * inverseNorm[v]!;
  }
  return { wHat, inverseNorm };
}

/** d(w / |w|) = dw / |w| - w (w . dw) / |w|^3, which is symmetric: the same map takes dHat to dw. */
export function normalizeRowsBackward(dHat: ArrayLike<number>, w: ArrayLike<number>, V: number, C: number): Float64Array {
  const dw = new Float64Array(V * C);
  for (let v = 0; v < V; v++) {
    let sumOfSquares = 0;
    let along = 0;
    for (let c = 0; c < C; c++) {
      sumOfSquares += w[v * C + c]! ** 2;
      along += w[v * C + c]! * dHat[v * C + c]!;
    }
    const norm = Math.sqrt(sumOfSquares);
    for (let c = 0; c < C; c++) dw[v * C + c] = dHat[v * C + c]! / norm - (w[v * C + c]! * along) / norm ** 3;
  }
  return dw;
}
