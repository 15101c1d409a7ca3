import { describe, expect, it } from "vitest";
import { type AdamWState, adamwUpdate } from "./adamw.js";

const settings = { learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0, step: 1, gradScale: 1 };

function state(...parameters: number[]): AdamWState {
  const zeros = new Float64Array(parameters.length);
  return { parameter: Float64Array.from(parameters), firstMoment: zeros, secondMoment: zeros };
}

describe("adamw", () => {
  it("moves by the learning rate against the sign of the gradient in the first step, whatever its size", () => {
    const { parameter } = adamwUpdate(state(1, 1, 1), [3, -1e-3, 500], settings);
    expect(parameter[0]).toBeCloseTo(0.99, 9);
    expect(parameter[1]).toBeCloseTo(1.01, 6); // epsilon is 1e-5 of this gradient
    expect(parameter[2]).toBeCloseTo(0.99, 9);
  });

  it("decays weights by learning rate times weight decay, apart from the gradient", () => {
    expect(adamwUpdate(state(2), [0], { ...settings, weightDecay: 0.1 }).parameter[0]).toBeCloseTo(2 * (1 - 0.001), 15);
  });

  it("finds the minimum of a quadratic", () => {
    let current = state(3, -2);
    for (let step = 1; step <= 2000; step++) current = adamwUpdate(current, current.parameter, { ...settings, step });
    expect(Math.max(...current.parameter.map(Math.abs))).toBeLessThan(1e-2);
  });
});
