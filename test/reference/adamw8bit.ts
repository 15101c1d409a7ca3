/**
 * AdamW with moments of 8 bits: dynamic tree quantisation over blocks, Dettmers et al. 2022 (arXiv:2110.02861), section 1.3 and 2.
 * A value is stored as the nearest of 256 between -1 (or 0) and 1, times the largest magnitude of its block.
 */
import { type AdamWSettings, adamwUpdate } from "./adamw.js";

export const momentBlock = 256;

/** The 256 values, ascending, as fp32 has them: 0, 1, and in each of seven decades twice as many as in the one below. */
export function dynamicMap(isSigned: boolean): number[] {
  const values = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const parts = 2 ** decade * (isSigned ? 1 : 2);
    for (let part = 0; part < parts; part++) {
      const low = 0.1 + (0.9 * part) / parts;
      const high = 0.1 + (0.9 * (part + 1)) / parts;
      const value = (10 ** (decade - 6) * (low + high)) / 2;
      values.push(value);
      if (isSigned) values.push(-value);
    }
  }
  return values.map(Math.fround).sort((a, b) => a - b);
}

export interface QuantizedMoment {
  readonly codes: ArrayLike<number>;
  /** Per block. */
  readonly scales: ArrayLike<number>;
}

export function dequantize({ codes, scales }: QuantizedMoment, map: readonly number[]): Float64Array {
  return Float64Array.from(codes, (code, i) => map[code]! * scales[Math.floor(i / momentBlock)]!);
}

export function blockScales(values: Float64Array): Float64Array {
  const scales = new Float64Array(Math.ceil(values.length / momentBlock));
  values.forEach((value, i) => {
    const block = Math.floor(i / momentBlock);
    scales[block] = Math.max(scales[block]!, Math.abs(value));
  });
  return scales;
}

/** By trying all of them. A positive second moment does not become 0: `neverZero`. */
export function nearestCode(value: number, map: readonly number[], neverZero: boolean): number {
  let best = 0;
  for (let code = 1; code < map.length; code++) if (Math.abs(map[code]! - value) < Math.abs(map[best]! - value)) best = code;
  return neverZero && value > 0 && map[best] === 0 ? best + 1 : best;
}

export interface Adam8bitStep {
  readonly parameter: Float64Array;
  /** Before they are stored. */
  readonly firstMoment: Float64Array;
  readonly secondMoment: Float64Array;
}

export function adamw8bitUpdate(
  state: { readonly parameter: ArrayLike<number>; readonly m: QuantizedMoment; readonly v: QuantizedMoment },
  grad: ArrayLike<number>,
  settings: AdamWSettings,
): Adam8bitStep {
  const moments = { firstMoment: dequantize(state.m, dynamicMap(true)), secondMoment: dequantize(state.v, dynamicMap(false)) };
  return adamwUpdate({ parameter: Float64Array.from(state.parameter), ...moments }, grad, settings);
}
