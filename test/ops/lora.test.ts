import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { loraBackward, loraForward } from "../reference/lora.js";
import { dropoutMask } from "../reference/philox.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { computeDTypes, plus, probe, rounded } from "./probe.js";

const shapes = [
  { N: 1, C: 37, rows: 5, R: 1, padding: 3 },
  { N: 9, C: 8, rows: 33, R: 8, padding: 3 },
  { N: 70, C: 131, rows: 48, R: 24, padding: 3 },
  // Rows on 16 bytes; more than one block of features, of tokens and, in the last, of ranks.
  { N: 33, C: 304, rows: 40, R: 16, padding: 0 },
  { N: 130, C: 60, rows: 24, R: 64, padding: 4 },
  { N: 70, C: 264, rows: 17, R: 70, padding: 8 },
];
const cases = computeDTypes.flatMap((dtype) => [0, 0.05, 0.5].flatMap((rate) => shapes.map((shape) => ({ dtype, rate, ...shape }))));

/** Sequences of 5 tokens, so that positions and examples both vary. */
function dropoutOf(N: number, rate: number) {
  const positions = Int32Array.from({ length: N }, (_, n) => n % 5);
  const examples = Int32Array.from({ length: N }, (_, n) => Math.floor(n / 5) + 3);
  const key = [0xdeadbeef, 12] as const;
  return {
    args: { rate, key0: key[0], key1: key[1], site: 9, positions, examples },
    reference: { rate, key, site: 9, positions, examples },
  };
}

describe.each(cases)("lora $dtype dropout=$rate N=$N C=$C rows=$rows R=$R", ({ dtype, rate, N, C, rows, R, padding }) => {
  const random = new RandomValues(N + C + R);
  const x = rounded(random.normal(N * C), dtype);
  const A = rounded(random.normal(R * C), dtype);
  const up = rounded(random.normal(rows * R), dtype);
  const dy = rounded(random.normal(N * rows), dtype);
  const dx = rounded(random.normal(N * C), dtype);
  const dA = random.normal(R * C);
  const dropout = dropoutOf(N, rate);
  const mask = dropoutMask(N, C, dropout.reference);
  const shape = { N, rows, cols: C, R, scaling: 1 };
  const settings = { dtype, N, C, R, rows, padding };

  it("down_forward assigns h from the masked input", () => {
    const { h } = probe("lora_down_forward", { ...settings, ...dropout.args, x, A });
    expectClose(h, loraForward(x, mask, A, up, shape).h, tolerance("lora", dtype, "forward", C));
  });

  it("up_backward assigns dh", () => {
    const { dh } = probe("lora_up_backward", { ...settings, dy, up });
    expectClose(dh, loraBackward(dy, x, mask, A, up, shape).dh, tolerance("lora", dtype, "backward", rows));
  });

  it("down_backward adds dA and dx under the same mask", () => {
    const dh = rounded(random.normal(N * R), dtype);
    // With B = 1 the gradient of h is dy itself.
    const identity = Float64Array.from({ length: R * R }, (_, i) => (i % (R + 1) === 0 ? 1 : 0));
    const expected = loraBackward(dh, x, mask, A, identity, { ...shape, rows: R });
    const result = probe("lora_down_backward", { ...settings, ...dropout.args, dh, x, A, dx, dA });
    expectClose(result.dA, plus(dA, expected.dA), tolerance("lora", dtype, "backward", N));
    expectClose(result.dx, plus(dx, expected.dx), tolerance("lora", dtype, "backward", R));
  });

  it("down_backward adds to an fp32 dx without rounding it", () => {
    const dh = rounded(random.normal(N * R), dtype);
    const identity = Float64Array.from({ length: R * R }, (_, i) => (i % (R + 1) === 0 ? 1 : 0));
    const wide = random.normal(N * C);
    const expected = loraBackward(dh, x, mask, A, identity, { ...shape, rows: R });
    const result = probe("lora_down_backward", { ...settings, ...dropout.args, residualDtype: "fp32", dh, x, A, dx: wide });
    expectClose(result.dx, plus(wide, expected.dx), tolerance("lora", "fp32", "backward", R));
  });

  it("up_backward takes the fp32 gradient of the residual stream", () => {
    const narrow = probe("lora_up_backward", { ...settings, dy, up });
    expectSame(probe("lora_up_backward", { ...settings, gradientDtype: "fp32", dy, up }).dh, narrow.dh);
  });

  it("down_backward without dx gives the same dA", () => {
    const dh = rounded(random.normal(N * R), dtype);
    const args = { ...settings, ...dropout.args, dh, x, A, dA };
    const result = probe("lora_down_backward", args);
    expect(Object.keys(result)).toEqual(["dA"]);
    expectSame(result.dA, probe("lora_down_backward", { ...args, dx }).dA);
  });
});

describe("dropout", () => {
  it.each([0.05, 0.25, 0.9])("at rate %f draws the mask of the reference, factor for factor", (rate) => {
    const [N, C] = [12, 37];
    const { args, reference } = dropoutOf(N, rate);
    expectSame(probe("dropout_mask", { N, C, ...args }).mask, Float32Array.from(dropoutMask(N, C, reference)));
  });

  it.each(computeDTypes)("in %s masks the adapter's input with exactly those factors", (dtype) => {
    const [N, C] = [11, 37];
    const { args, reference } = dropoutOf(N, 0.25);
    const identity = Float32Array.from({ length: C * C }, (_, i) => (i % (C + 1) === 0 ? 1 : 0));
    const x = new Float32Array(N * C).fill(1);
    const { h } = probe("lora_down_forward", { dtype, N, C, R: C, x, A: identity, ...args });
    expectSame(h, rounded(Float32Array.from(dropoutMask(N, C, reference)), dtype));
  });
});
