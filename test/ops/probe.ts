/**
 * Calls one native op; native/binding/probe.cpp lists the arguments. Also the helpers that every op test shares.
 */
import type { ComputeDType } from "../../src/native/addon-types.js";
import { loadAddon } from "../../src/native/load.js";
import { expectSame } from "../expect-close.js";

/** Where the ops run: "cpu", or what POLYPACA_TEST_DEVICE says: the same tests hold for every back end. */
export const device = process.env.POLYPACA_TEST_DEVICE ?? "cpu";

/** What the back end computes in; CUDA multiplies bf16 only. */
export const computeDTypes: readonly ComputeDType[] = device === "cpu" ? ["fp32", "bf16"] : ["bf16"];

/** What ops without products take on every back end. */
export const storedDTypes: readonly ComputeDType[] = ["fp32", "bf16"];

type Argument = Float32Array | Int32Array | number | string | boolean | null;

export function probe(op: string, args: Record<string, Argument>): Record<string, Float32Array> {
  return loadAddon().probe(op, { device, ...args }) as Record<string, Float32Array>;
}

/** The value that a stored element has: rounded to nearest, ties to even. */
export function rounded(values: ArrayLike<number>, dtype: ComputeDType): Float32Array {
  const result = Float32Array.from(values);
  if (dtype === "fp32") return result;
  const bits = new Uint32Array(result.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = ((bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1)) & 0xffff0000) >>> 0;
  return result;
}

/**
 * The result, after making sure that it is the same, bit for bit, whatever the order in which threads run: the emulator draws another
 * one for every seed, elsewhere the op simply runs again.
 */
export function probeRepeatedly(op: string, args: Record<string, Argument>): Record<string, Float32Array> {
  const seed = process.env.POLYPACA_EMULATOR_SEED;
  const results = ["1", "2", "3"].map((value) => {
    process.env.POLYPACA_EMULATOR_SEED = value;
    return probe(op, args);
  });
  if (seed === undefined) delete process.env.POLYPACA_EMULATOR_SEED;
  else process.env.POLYPACA_EMULATOR_SEED = seed;
  for (const again of results.slice(1)) {
    for (const [name, values] of Object.entries(results[0]!)) expectSame(again[name], values);
  }
  return results[0]!;
}

export function plus(a: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  return Float64Array.from(a, (value, i) => value + b[i]!);
}

export function scaled(a: ArrayLike<number>, factor: number): Float64Array {
  return Float64Array.from(a, (value) => factor * value);
}
