/** Token embedding: x[n] = table[ids[n]]. table [V, C], x, dx [N, C]. */
export function embeddingForward(table: ArrayLike<number>, ids: ArrayLike<number>, C: number): Float64Array {
  const x = new Float64Array(ids.length * C);
  for (let n = 0; n < ids.length; n++) {
    for (let c = 0; c < C; c++) x[n * C + c] = table[ids[n]! * C + c]!;
  }
  return x;
}

export function embeddingBackward(dx: ArrayLike<number>, ids: ArrayLike<number>, V: number, C: number): Float64Array {
  const dTable = new Float64Array(V * C);
  for (let n = 0; n < ids.length; n++) {
    for (let c = 0; c < C; c++) dTable[ids[n]! * C + c]! += dx[n * C + c]!;
  }
  return dTable;
}
