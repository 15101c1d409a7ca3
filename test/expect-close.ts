import { expect } from "vitest";
import type { Tolerance } from "./tolerances.js";

/**
 * Fails naming the worst element; NaN and infinities fail unless expected.
 *
 * @param smallestScale for results that are zero by mathematics: the size of the terms that cancel
 */
export function expectClose(
  actual: ArrayLike<number> | undefined,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  smallestScale = 0,
): void {
  if (!actual) throw new Error("the output is missing");
  expect(actual.length).toBe(expected.length);
  let scale = smallestScale;
  for (let i = 0; i < expected.length; i++) scale = Math.max(scale, Math.abs(expected[i]!));
  let worst = 0;
  let excess = 0;
  for (let i = 0; i < expected.length; i++) {
    const allowed = tolerance.atol * scale + tolerance.rtol * Math.abs(expected[i]!);
    const error = Math.abs(actual[i]! - expected[i]!);
    const ratio = actual[i] === expected[i] ? 0 : Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / allowed;
    if (ratio > excess) [worst, excess] = [i, ratio];
  }
  const message = `element ${worst} is ${actual[worst]}, expected ${expected[worst]} (largest ${scale}): ${excess.toPrecision(3)} times the tolerance (${tolerance.reason})`;
  expect(excess, message).toBeLessThanOrEqual(1);
}

/** Same numbers element for element (NaN equals NaN, 0 equals -0), naming the first that differs. Much faster than toEqual on long arrays. */
export function expectSame(actual: ArrayLike<number> | undefined, expected: ArrayLike<number> | undefined): void {
  if (!actual || !expected) throw new Error(`${actual ? "what to compare with" : "the output"} is missing`);
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const same = actual[i] === expected[i] || (Number.isNaN(actual[i]) && Number.isNaN(expected[i]));
    if (!same) expect.fail(`element ${i} is ${actual[i]}, expected exactly ${expected[i]}`);
  }
}
