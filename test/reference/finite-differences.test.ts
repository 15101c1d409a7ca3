/**
 * Every analytic gradient of the reference against central differences in float64. A scalar loss is made of an op's output by
 * weighting it with fixed random numbers; those are then the gradient that comes in from above.
 */
import { describe, expect, it } from "vitest";
import { type AttentionShape, alibiSlopes, attentionBackward, attentionForward, positionsOf } from "./attention.js";
import { crossEntropy } from "./cross-entropy.js";
import { embeddingBackward, embeddingForward } from "./embedding.js";
import { erf, erfc, geluBackward, geluForward } from "./gelu.js";
import { layerNormBackward, layerNormForward } from "./layer-norm.js";
import { linearBackward, linearForward } from "./linear.js";
import { loraBackward, loraForward } from "./lora.js";
import { normalizeRows, normalizeRowsBackward } from "./normalized-head.js";
import { dropoutMask } from "./philox.js";
import { RandomValues } from "./random-values.js";
import { rmsNormBackward, rmsNormForward } from "./rms-norm.js";
import { ropeBackward, ropeForward } from "./rope.js";
import { swigluBackward, swigluForward } from "./swiglu.js";

const random = new RandomValues(2024);
const values = (count: number, scale = 1) => Float64Array.from(random.normal(count, scale));

function weighted(output: ArrayLike<number>, weights: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < output.length; i++) sum += output[i]! * weights[i]!;
  return sum;
}

/** Central differences of `loss` in every element of `input`, which `loss` reads in place. */
function differences(input: Float64Array, loss: () => number): Float64Array {
  const step = 1e-5; // truncation about 1e-10, rounding about 1e-11
  return input.map((value, i) => {
    input[i] = value + step;
    const above = loss();
    input[i] = value - step;
    const below = loss();
    input[i] = value;
    return (above - below) / (2 * step);
  });
}

/** Largest deviation relative to the largest element. */
function expectGradient(analytic: ArrayLike<number>, input: Float64Array, loss: () => number): void {
  const numeric = differences(input, loss);
  expect(analytic.length).toBe(numeric.length);
  const scale = Math.max(...numeric.map(Math.abs));
  expect(scale).toBeGreaterThan(0);
  const error = Math.max(...numeric.map((value, i) => Math.abs(value - analytic[i]!)));
  expect(error / scale).toBeLessThan(1e-6);
}

describe("norms", () => {
  const shape = { N: 3, C: 7, epsilon: 1e-5 };
  const [x, w, b, dy] = [values(21), values(7), values(7), values(21)];

  it("rms_norm backward agrees with finite differences", () => {
    const loss = () => weighted(rmsNormForward(x, w, shape).y, dy);
    const { dx, dw } = rmsNormBackward(dy, x, w, shape);
    expectGradient(dx, x, loss);
    expectGradient(dw, w, loss);
  });

  it("layer_norm backward agrees with finite differences", () => {
    const loss = () => weighted(layerNormForward(x, w, b, shape).y, dy);
    const { dx, dw, db } = layerNormBackward(dy, x, w, shape);
    expectGradient(dx, x, loss);
    expectGradient(dw, w, loss);
    expectGradient(db, b, loss);
  });
});

describe("activations", () => {
  const [u, da] = [values(40, 2), values(40)];

  it.each(["erf", "tanh"] as const)("gelu (%s) backward agrees with finite differences", (form) => {
    expectGradient(geluBackward(da, u, form), u, () => weighted(geluForward(u, form), da));
  });

  it("swiglu backward agrees with finite differences", () => {
    const dHalf = da.subarray(0, 20);
    expectGradient(swigluBackward(dHalf, u, 4, 5), u, () => weighted(swigluForward(u, 4, 5), dHalf));
  });

  it("erf and erfc give the tabulated values, also in the tails", () => {
    const table = [
      [0.5, 0.5204998778130465, 0.4795001221869535],
      [1.5, 0.9661051464753108, 0.033894853524689274],
      [3, 0.9999779095030014, 2.209049699858544e-5],
      [6, 1, 2.151973671249891e-17],
    ] as const;
    for (const [x, erfValue, erfcValue] of table) {
      expect(Math.abs(erf(x) / erfValue - 1)).toBeLessThan(1e-15);
      expect(Math.abs(erfc(x) / erfcValue - 1)).toBeLessThan(1e-13);
      expect(erf(-x)).toBe(-erf(x));
    }
  });
});

describe("linear layers", () => {
  const shape = { N: 4, rows: 5, cols: 9 };
  const [x, w, bias, dy] = [values(36), values(45), values(5), values(20)];

  it("linear backward agrees with finite differences", () => {
    const loss = () => weighted(linearForward(x, w, bias, shape), dy);
    const { dx, dw, db } = linearBackward(dy, x, w, shape);
    expectGradient(dx, x, loss);
    expectGradient(dw, w, loss);
    expectGradient(db, bias, loss);
  });

  it("lora backward agrees with finite differences under a dropout mask", () => {
    const lora = { ...shape, R: 3, scaling: 2 };
    const [A, B] = [values(27), values(15)];
    const mask = dropoutMask(4, 9, { rate: 0.3, key: [1, 2], site: 3, positions: [0, 1, 2, 0], examples: [0, 0, 0, 1] });
    const loss = () => weighted(loraForward(x, mask, A, B, lora).y, dy);
    const { dx, dA, dB } = loraBackward(dy, x, mask, A, B, lora);
    expectGradient(dx, x, loss);
    expectGradient(dA, A, loss);
    expectGradient(dB, B, loss);
  });
});

describe("rope", () => {
  it("backward agrees with finite differences and leaves the dimensions above rotaryDim alone", () => {
    const shape = { heads: 2, headDim: 10, rotaryDim: 6, theta: 100 };
    const positions = [0, 1, 2, 5];
    const [x, dy] = [values(80), values(80)];
    const dx = ropeBackward(dy, positions, shape);
    expectGradient(dx, x, () => weighted(ropeForward(x, positions, shape), dy));
    for (let vector = 0; vector < 8; vector++) {
      expect(dx.subarray(vector * 10 + 6, vector * 10 + 10)).toEqual(dy.subarray(vector * 10 + 6, vector * 10 + 10));
    }
  });

  it("makes scores depend on the distance of two positions only", () => {
    const shape = { heads: 1, headDim: 8, rotaryDim: 8, theta: 10000 };
    const [q, k] = [values(8), values(8)];
    const score = (m: number, n: number) => weighted(ropeForward(q, [m], shape), ropeForward(k, [n], shape));
    expect(score(9, 4)).toBeCloseTo(score(25, 20), 12);
    expect(score(9, 4)).not.toBeCloseTo(score(9, 5), 3);
  });
});

describe("attention", () => {
  const cases: Record<string, AttentionShape> = {
    "one head, one sequence": { sequenceLengths: [5], H: 1, G: 1, D: 4, scale: 0.5 },
    "several sequences, one of a single token": { sequenceLengths: [3, 1, 4], H: 2, G: 2, D: 3, scale: 0.6 },
    "grouped queries": { sequenceLengths: [4, 2], H: 6, G: 2, D: 3, scale: 0.6 },
    "ALiBi on a head count that is no power of two": { sequenceLengths: [6], H: 6, G: 6, D: 2, scale: 0.7, alibiSlopes: alibiSlopes(6) },
  };

  it.each(Object.entries(cases))("backward agrees with finite differences: %s", (_, shape) => {
    const N = shape.sequenceLengths.reduce((a, b) => a + b, 0);
    const [q, dout] = [values(N * shape.H * shape.D), values(N * shape.H * shape.D)];
    const [k, v] = [values(N * shape.G * shape.D), values(N * shape.G * shape.D)];
    const loss = () => weighted(attentionForward(q, k, v, shape).out, dout);
    const { dq, dk, dv } = attentionBackward(dout, q, k, v, shape);
    expectGradient(dq, q, loss);
    expectGradient(dk, k, loss);
    expectGradient(dv, v, loss);
  });

  it("through rope, backward agrees with finite differences in the unrotated q and k", () => {
    const shape: AttentionShape = { sequenceLengths: [4, 3], H: 2, G: 1, D: 6, scale: 0.4 };
    const positions = positionsOf(shape.sequenceLengths);
    const forHeads = (heads: number) => ({ heads, headDim: 6, rotaryDim: 4, theta: 50 });
    const [q, k, v, dout] = [values(84), values(42), values(42), values(84)];
    const rotated = () => [ropeForward(q, positions, forHeads(2)), ropeForward(k, positions, forHeads(1))] as const;
    const loss = () => weighted(attentionForward(...rotated(), v, shape).out, dout);
    const { dq, dk } = attentionBackward(dout, ...rotated(), v, shape);
    expectGradient(ropeBackward(dq, positions, forHeads(2)), q, loss);
    expectGradient(ropeBackward(dk, positions, forHeads(1)), k, loss);
  });

  it("does not look at later tokens or other sequences", () => {
    const shape: AttentionShape = { sequenceLengths: [3, 2], H: 1, G: 1, D: 2, scale: 1 };
    const [q, k, v] = [values(10), values(10), values(10)];
    const before = attentionForward(q, k, v, shape).out;
    for (const i of [4, 5]) v[i] = k[i]! + 10; // token 2, the last of the first sequence
    const after = attentionForward(q, k, v, shape).out;
    const changed = [0, 1, 2, 3, 4].filter((n) => before[2 * n] !== after[2 * n]);
    expect(changed).toEqual([2]);
  });

  it("ALiBi slopes are the published ones", () => {
    expect(alibiSlopes(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((i) => 2 ** -i));
    expect(alibiSlopes(6)).toEqual([2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3]);
  });
});

describe("embedding, head and loss", () => {
  it("embedding backward agrees with finite differences where ids repeat", () => {
    const [table, dx] = [values(20), values(24)];
    const ids = [3, 0, 3, 3, 1, 0];
    expectGradient(embeddingBackward(dx, ids, 5, 4), table, () => weighted(embeddingForward(table, ids, 4), dx));
  });

  it("cross_entropy gradient agrees with finite differences and ignores negative targets", () => {
    const logits = values(3 * 11, 2);
    const targets = [4, -100, 10];
    const { losses, dlogits } = crossEntropy(logits, targets, 11);
    expectGradient(dlogits, logits, () => weighted(crossEntropy(logits, targets, 11).losses, [1, 1, 1]));
    expect(losses[1]).toBe(0);
    expect([...dlogits.subarray(11, 22)]).toEqual(Array(11).fill(0));
  });

  it("row-normalised head backward agrees with finite differences", () => {
    const [w, dHat] = [values(4 * 6), values(4 * 6)];
    expectGradient(normalizeRowsBackward(dHat, w, 4, 6), w, () => weighted(normalizeRows(w, 4, 6).wHat, dHat));
  });
});
