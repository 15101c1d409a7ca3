/**
 * LoRA (Hu et al. 2021, arXiv:2106.09685): what an adapter adds to a linear layer's output, scaling (mask * x) A^T B^T.
 * x, mask [N, cols] (mask: 0 or 1 / (1 - rate); all ones without dropout), A [R, cols], B [rows, R], y [N, rows], h [N, R].
 */
import { linearBackward, linearForward } from "./linear.js";

export interface LoraShape {
  readonly N: number;
  readonly rows: number;
  readonly cols: number;
  readonly R: number;
  readonly scaling: number;
}

type Values = ArrayLike<number>;

export function loraForward(x: Values, mask: Values, A: Values, B: Values, { N, rows, cols, R, scaling }: LoraShape) {
  const masked = multiply(x, mask);
  const h = linearForward(masked, A, null, { N, rows: R, cols });
  const y = linearForward(h, B, null, { N, rows, cols: R }).map((value) => scaling * value);
  return { h, y };
}

export function loraBackward(dy: Values, x: Values, mask: Values, A: Values, B: Values, shape: LoraShape) {
  const { N, rows, cols, R, scaling } = shape;
  const { h } = loraForward(x, mask, A, B, shape);
  const scaled = Float64Array.from(dy, (value) => scaling * value);
  const up = linearBackward(scaled, h, B, { N, rows, cols: R });
  const down = linearBackward(up.dx, multiply(x, mask), A, { N, rows: R, cols });
  return { dx: multiply(down.dx, mask), dA: down.dw, dB: up.dw, dh: up.dx };
}

function multiply(a: Values, b: Values): Float64Array {
  return Float64Array.from(a, (value, i) => value * b[i]!);
}
