/**
 * SwiGLU (Shazeer 2020, arXiv:2002.05202): a = silu(gate) up, silu(g) = g / (1 + exp(-g)).
 * u [N, 2 I] holds the gate in its first I columns and up in the others; a, da [N, I].
 */
export function swigluForward(u: ArrayLike<number>, N: number, I: number): Float64Array {
  const a = new Float64Array(N * I);
  for (let n = 0; n < N; n++) {
    for (let i = 0; i < I; i++) {
      const gate = u[n * 2 * I + i]!;
      a[n * I + i] = (gate / (1 + Math.exp(-gate))) * u[n * 2 * I + I + i]!;
    }
  }
  return a;
}

export function swigluBackward(da: ArrayLike<number>, u: ArrayLike<number>, N: number, I: number): Float64Array {
  const du = new Float64Array(N * 2 * I);
  for (let n = 0; n < N; n++) {
    for (let i = 0; i < I; i++) {
      const gate = u[n * 2 * I + i]!;
      const up = u[n * 2 * I + I + i]!;
      const sigmoid = 1 / (1 + Math.exp(-gate));
      const d = da[n * I + i]!;
      du[n * 2 * I + i] = d * up * (sigmoid + gate * sigmoid * (1 - sigmoid));
      du[n * 2 * I + I + i] = d * gate * sigmoid;
    }
  }
  return du;
}
