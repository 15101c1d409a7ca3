import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { adamwUpdate } from "../reference/adamw.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { probe, rounded } from "./probe.js";

function makeState(count: number) {
  const random = new RandomValues(count);
  return {
    master: random.normal(count),
    m: random.normal(count, 0.1),
    v: random.normal(count, 0.1).map((value) => value * value),
    grad: random.normal(count),
  };
}

const settings = { learningRate: 2 ** -10, weightDecay: 0.125, step: 3, gradScale: 0.5 };

describe.each([1, 37, 8193, 40_000])("adamw count=%i", (count) => {
  const state = makeState(count);

  it("updates masters and moments as the reference", () => {
    const expected = adamwUpdate(
      {
        parameter: Float64Array.from(state.master),
        firstMoment: Float64Array.from(state.m),
        secondMoment: Float64Array.from(state.v),
      },
      state.grad,
      { ...settings, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    );
    const result = probe("adamw", { ...state, ...settings });
    expectClose(result.master, expected.parameter, tolerance("adamw", "fp32", "forward"));
    expectClose(result.m, expected.firstMoment, tolerance("adamw", "fp32", "forward"));
    expectClose(result.v, expected.secondMoment, tolerance("adamw", "fp32", "forward"));
    expect(result.copy).toBeUndefined();
  });

  it("writes the bf16 copy of the new masters", () => {
    const result = probe("adamw", { ...state, ...settings, form: "copied" });
    expectSame(result.copy, rounded(result.master!, "bf16"));
    expectSame(result.master, probe("adamw", { ...state, ...settings }).master);
  });

  it("loses nothing where the masters are kept as halves", () => {
    const result = probe("adamw", { ...state, ...settings, form: "split" });
    const whole = probe("adamw", { ...state, ...settings });
    for (const name of ["master", "m", "v"]) expectSame(result[name], whole[name]!);
    expectSame(result.copy, roundedUp(result.master!));
  });
});

/** To bf16, ties away from zero. */
function roundedUp(values: Float32Array): Float32Array {
  const result = Float32Array.from(values);
  const bits = new Uint32Array(result.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = ((bits[i]! + 0x8000) & 0xffff0000) >>> 0;
  return result;
}

describe("halves of an fp32", () => {
  it("come together again bit for bit: ties, subnormals, zeros, the largest, infinity", () => {
    const tie = 1 + 2 ** -8;
    const master = Float32Array.of(
      tie,
      -tie,
      1 + 3 * 2 ** -8,
      2 ** -149,
      -(2 ** -130),
      0,
      -0,
      3.4028234663852886e38,
      Number.POSITIVE_INFINITY,
    );
    const zero = new Float32Array(master.length);
    const result = probe("adamw", { ...settings, learningRate: 0, master, m: zero, v: zero, grad: zero, form: "split" });
    expectSame(result.master, master);
    expectSame(result.copy, roundedUp(master));
  });
});

describe("adamw", () => {
  it("with learning rate 0 moves the moments and no weight", () => {
    const state = makeState(100);
    const result = probe("adamw", { ...state, ...settings, learningRate: 0 });
    expectSame(result.master, state.master);
    expect(result.m).not.toEqual(state.m);
  });

  it("takes 1 - beta of the constants as they were given, not as fp32 has them", () => {
    const zero = new Float32Array(1);
    const { m, v } = probe("adamw", { ...settings, master: zero, m: zero, v: zero, grad: Float32Array.of(1), gradScale: 1 });
    expect(m![0]).toBe(Math.fround(1 - 0.9));
    expect(v![0]).toBe(Math.fround(1 - 0.999));
  });
});

describe("add_squares", () => {
  it.each([0, 1, 37, 70_001])("adds %i squares in double", (count) => {
    const x = new RandomValues(count).normal(count);
    const expected = x.reduce((sum, value) => sum + value * value, 0);
    const value = Number(probe("add_squares", { x }).value);
    expect(Math.abs(value - expected)).toBeLessThanOrEqual(1e-12 * expected);
  });

  it("sees gradients whose squares fp32 cannot hold", () => {
    const value = Number(probe("add_squares", { x: Float32Array.of(1e-30, 1e30) }).value);
    expect(value / 1e60).toBeCloseTo(1, 6);
    expect(Number(probe("add_squares", { x: Float32Array.of(1e-30) }).value)).toBeGreaterThan(0);
  });
});

describe("finish_norm", () => {
  const finish = (args: { maxGradNorm: number; lossSum: number; sumOfSquares: number }) => {
    const { clip, applies } = probe("finish_norm", args);
    return { clip: Number(clip), applies: Number(applies) };
  };

  it("clips to max_grad_norm / (norm + 1e-6), and never scales up", () => {
    expect(finish({ maxGradNorm: 1, lossSum: 3, sumOfSquares: 16 })).toEqual({ clip: Math.fround(1 / (4 + 1e-6)), applies: 1 });
    expect(finish({ maxGradNorm: 1, lossSum: 3, sumOfSquares: 0.25 })).toEqual({ clip: 1, applies: 1 });
    expect(finish({ maxGradNorm: 0, lossSum: 3, sumOfSquares: 16 })).toEqual({ clip: 1, applies: 1 });
  });

  it("a loss or a norm that is not finite applies nothing", () => {
    expect(finish({ maxGradNorm: 1, lossSum: Number.NaN, sumOfSquares: 1 }).applies).toBe(0);
    expect(finish({ maxGradNorm: 1, lossSum: 1, sumOfSquares: Number.POSITIVE_INFINITY }).applies).toBe(0);
    expect(finish({ maxGradNorm: 1, lossSum: 1, sumOfSquares: Number.NaN }).applies).toBe(0);
  });

  it("a step that does not apply leaves weights and moments as they were", () => {
    const values = { master: Float32Array.of(1), m: Float32Array.of(2), v: Float32Array.of(3) };
    const { master, m, v } = probe("adamw", { ...settings, ...values, grad: Float32Array.of(Number.NaN), applies: false });
    expect({ master, m, v }).toEqual(values);
  });
});

describe("add_losses", () => {
  it("adds to what the sum was, in double and in order", () => {
    const losses = Float32Array.from({ length: 1000 }, (_, i) => (i % 7) + 1e-6 * i);
    expect(Number(probe("add_losses", { losses, sum: 5 }).value)).toBe(losses.reduce((sum, loss) => sum + loss, 5));
  });
});
