/** Linear layer: y = x w^T + bias. x [N, cols], w [rows, cols], bias [rows], y [N, rows]. */
export interface LinearShape {
  readonly N: number;
  readonly rows: number;
  readonly cols: number;
}

export function linearForward(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  bias: ArrayLike<number> | null,
  { N, rows, cols }: LinearShape,
): Float64Array {
  const y = new Float64Array(N * rows);
  for (let n = 0; n < N; n++) {
    for (let r = 0; r < rows; r++) {
      let sum = bias ? bias[r]! : 0;
      for (let c = 0; c < cols; c++) sum += x[n * cols + c]! * w[r * cols + c]!;
      y[n * rows + r] = sum;
    }
  }
  return y;
}

export function linearBackward(dy: ArrayLike<number>, x: ArrayLike<number>, w: ArrayLike<number>, { N, rows, cols }: LinearShape) {
  const dx = new Float64Array(N * cols);
  const dw = new Float64Array(rows * cols);
  const db = new Float64Array(rows);
  for (let n = 0; n < N; n++) {
    for (let r = 0; r < rows; r++) {
      const d = dy[n * rows + r]!;
      db[r]! += d;
      for (let c = 0; c < cols; c++) {
        dx[n * cols + c]! += d * w[r * cols + c]!;
        dw[r * cols + c]! += d * x[n * cols + c]!;
      }
    }
  }
  return { dx, dw, db };
}
