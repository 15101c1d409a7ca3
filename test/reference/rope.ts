/**
 * Rotary position embedding (Su et al. 2021, arXiv:2104.09864), pairs laid out by halves as GPT-NeoX and LLaMA do:
 * the pair (x[i], x[i + rotaryDim / 2]) is a complex number that is multiplied by exp(j position theta^(-2 i / rotaryDim)).
 * Dimensions from rotaryDim on pass unchanged.
 */
export interface RopeShape {
  /** Vectors per token. */
  readonly heads: number;
  readonly headDim: number;
  readonly rotaryDim: number;
  readonly theta: number;
}

/** x [N, heads, headDim], positions [N]; returns the rotated copy. */
export function ropeForward(x: ArrayLike<number>, positions: ArrayLike<number>, shape: RopeShape): Float64Array {
  return rotate(x, positions, shape, 1);
}

/** A rotation's transpose is the rotation by the opposite angle. */
export function ropeBackward(dy: ArrayLike<number>, positions: ArrayLike<number>, shape: RopeShape): Float64Array {
  return rotate(dy, positions, shape, -1);
}

function rotate(x: ArrayLike<number>, positions: ArrayLike<number>, shape: RopeShape, sign: 1 | -1): Float64Array {
  const { heads, headDim, rotaryDim, theta } = shape;
  const half = rotaryDim / 2;
  const y = Float64Array.from(x);
  for (let vector = 0; vector < positions.length * heads; vector++) {
    const position = positions[Math.floor(vector / heads)]!;
    for (let i = 0; i < half; i++) {
      const angle = sign * position * theta ** ((-2 * i) / rotaryDim);
      const re = vector * headDim + i;
      const im = re + half;
      y[re] = x[re]! * Math.cos(angle) - x[im]! * Math.sin(angle);
      y[im] = x[re]! * Math.sin(angle) + x[im]! * Math.cos(angle);
    }
  }
  return y;
}

/** The tables a back end is given: cos and sin [positions, rotaryDim / 2]. */
export function ropeTables(positions: number, rotaryDim: number, theta: number): { cos: Float32Array; sin: Float32Array } {
  const half = rotaryDim / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** ((-2 * i) / rotaryDim);
      cos[position * half + i] = Math.cos(angle);
      sin[position * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
