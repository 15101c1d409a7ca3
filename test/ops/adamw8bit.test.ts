import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { adamw8bitUpdate, blockScales, dynamicMap, momentBlock, nearestCode } from "../reference/adamw8bit.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { probe, rounded } from "./probe.js";

const constants = { learningRate: 2 ** -10, weightDecay: 0.125, gradScale: 0.5 };
const signed = dynamicMap(true);
const unsigned = dynamicMap(false);
const close = tolerance("adamw", "fp32", "forward");

interface State {
  readonly master: Float32Array;
  readonly mCodes: Int32Array;
  readonly vCodes: Int32Array;
  readonly mScale: Float32Array;
  readonly vScale: Float32Array;
}

function freshState(count: number): State {
  const blocks = Math.ceil(count / momentBlock);
  const moments = { mCodes: new Int32Array(count), vCodes: new Int32Array(count) };
  return { master: new RandomValues(count).normal(count), ...moments, mScale: new Float32Array(blocks), vScale: new Float32Array(blocks) };
}

function nativeStep(state: State, grad: Float32Array, step: number): State {
  const { master, mScale, vScale, newMCodes, newVCodes } = probe("adamw8bit", { ...state, grad, ...constants, step });
  return { master: master!, mScale: mScale!, vScale: vScale!, mCodes: Int32Array.from(newMCodes!), vCodes: Int32Array.from(newVCodes!) };
}

/** The nearest code; where the value is halfway to within fp32's rounding, either neighbour. */
function expectCodes(found: Int32Array, values: Float64Array, map: readonly number[], neverZero: boolean): void {
  const scales = blockScales(values);
  values.forEach((value, i) => {
    const scale = scales[Math.floor(i / momentBlock)]!;
    const ratio = scale === 0 ? 0 : value / scale;
    const nearest = nearestCode(ratio, map, neverZero);
    if (found[i] === nearest) return;
    expect(Math.abs(found[i]! - nearest), `code ${found[i]} of element ${i}, nearest is ${nearest}`).toBe(1);
    const middle = (map[found[i]!]! + map[nearest]!) / 2;
    expect(Math.abs(ratio - middle)).toBeLessThan(2e-6 * Math.abs(middle));
  });
}

describe("the maps", () => {
  it("have 256 different values from -0.993 (or 0) to 1, with 0 among them", () => {
    for (const [map, least] of [
      [signed, -0.99297],
      [unsigned, 0],
    ] as const) {
      expect(new Set(map).size).toBe(256);
      expect(map[0]).toBeCloseTo(least, 5);
      expect(map).toContain(0);
      expect(map[255]).toBe(1);
    }
  });
});

describe.each([1, 37, 256, 257, 8193, 40_000])("adamw8bit count=%i", (count) => {
  const random = new RandomValues(count + 1);

  it("steps as the reference from the same codes, five times, and stores the nearest codes", () => {
    let state = freshState(count);
    for (let step = 1; step <= 5; step++) {
      // Magnitudes over six decades, and a block that gets no gradient in some steps.
      const grad = random.normal(count).map((value, i) => (step > 2 && i < momentBlock ? 0 : value * 10 ** -(i % 7)));
      const { mCodes, vCodes, mScale, vScale } = state;
      const expected = adamw8bitUpdate(
        { parameter: state.master, m: { codes: mCodes, scales: mScale }, v: { codes: vCodes, scales: vScale } },
        grad,
        { ...constants, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step },
      );
      state = nativeStep(state, grad, step);
      expectClose(state.master, expected.parameter, close);
      expectClose(state.mScale, blockScales(expected.firstMoment), close);
      expectClose(state.vScale, blockScales(expected.secondMoment), close);
      expectCodes(state.mCodes, expected.firstMoment, signed, false);
      expectCodes(state.vCodes, expected.secondMoment, unsigned, true);
    }
  });

  it("writes the bf16 copy of the new masters", () => {
    const args = { ...freshState(count), grad: random.normal(count), ...constants, step: 1 };
    const result = probe("adamw8bit", { ...args, form: "copied" });
    expectSame(result.copy, rounded(result.master!, "bf16"));
    expectSame(result.master, probe("adamw8bit", args).master);
  });

  it("loses nothing where the masters are kept as halves", () => {
    const args = { ...freshState(count), grad: random.normal(count), ...constants, step: 1 };
    expectSame(probe("adamw8bit", { ...args, form: "split" }).master, probe("adamw8bit", args).master!);
  });
});

describe("adamw8bit", () => {
  it("moves nothing where gradients and moments are zero", () => {
    const state = freshState(300);
    const { master, mScale, vScale } = probe("adamw8bit", { ...state, grad: new Float32Array(300), ...constants, weightDecay: 0, step: 1 });
    expectSame(master, state.master);
    expect([...mScale!, ...vScale!]).toEqual([0, 0, 0, 0]);
  });

  it("takes no huge step where a gradient that was small beside its block's vanishes", () => {
    // Its second moment is 1e-8 of the block's largest, nearest to 0; its first moment is 1e-4 of the largest and is not.
    const grad = new Float32Array(momentBlock).fill(1).fill(1e-4, 0, 1);
    let state = nativeStep(freshState(momentBlock), grad, 1);
    const before = state.master[0]!;
    state = nativeStep(state, grad.fill(0, 0, 1), 2);
    const decay = constants.learningRate * constants.weightDecay * Math.abs(before);
    expect(Math.abs(state.master[0]! - before)).toBeLessThan(constants.learningRate + decay);
  });
});
