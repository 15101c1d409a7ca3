import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { geluBackward, geluForward } from "../reference/gelu.js";
import { RandomValues } from "../reference/random-values.js";
import { swigluBackward, swigluForward } from "../reference/swiglu.js";
import { tolerance } from "../tolerances.js";
import { probe, rounded, storedDTypes } from "./probe.js";

const kinds = ["gelu_erf", "gelu_tanh", "swiglu"] as const;
const shapes = [
  { N: 1, I: 37, padding: 5 },
  { N: 3, I: 1, padding: 5 },
  { N: 130, I: 200, padding: 5 },
  // Rows on 16 bytes, read in vectors; more than a block's threads have.
  { N: 3, I: 200, padding: 8 },
  { N: 2, I: 4104, padding: 0 },
];
const cases = kinds.flatMap((kind) => storedDTypes.flatMap((dtype) => shapes.map((shape) => ({ kind, dtype, ...shape }))));

function reference(kind: (typeof kinds)[number], u: Float32Array, da: Float32Array, N: number, I: number) {
  if (kind === "swiglu") return { a: swigluForward(u, N, I), du: swigluBackward(da, u, N, I) };
  const form = kind === "gelu_erf" ? "erf" : "tanh";
  return { a: geluForward(u, form), du: geluBackward(da, u, form) };
}

describe.each(cases)("activation $kind $dtype N=$N I=$I padding=$padding", ({ kind, dtype, N, I, padding }) => {
  const random = new RandomValues(N + I);
  const u = rounded(random.normal(N * I * (kind === "swiglu" ? 2 : 1), 3), dtype);
  const da = rounded(random.normal(N * I), dtype);
  const expected = reference(kind, u, da, N, I);
  const settings = { kind, dtype, N, I, padding, u };

  it("forward agrees with the reference", () => {
    expectClose(probe("activation_forward", settings).a, expected.a, tolerance("activation", dtype, "forward"));
  });

  it("backward agrees with the reference, and in place gives the same bits", () => {
    const { du } = probe("activation_backward", { ...settings, da });
    expectClose(du, expected.du, tolerance("activation", dtype, "backward"));
    expectSame(probe("activation_backward", { ...settings, da, inPlace: true }).u, du);
  });
});

describe("activations far from zero", () => {
  it.each(kinds)("%s neither overflows nor loses its limit", (kind) => {
    const extremes = [-1e30, -1e4, -90, -20, 0, 20, 90, 1e4];
    const I = extremes.length;
    const u = Float32Array.from(kind === "swiglu" ? [...extremes, ...extremes.map(() => 1)] : extremes);
    const da = new Float32Array(I).fill(1);
    const { a } = probe("activation_forward", { kind, N: 1, I, u });
    const { du } = probe("activation_backward", { kind, N: 1, I, u, da });
    // To the right all three are the identity, to the left zero.
    expectClose(a?.slice(5), extremes.slice(5), { atol: 0, rtol: 1e-6, reason: "identity up to rounding" });
    expectClose(du?.slice(5, I), [1, 1, 1], { atol: 1e-6, rtol: 0, reason: "slope 1 up to rounding" });
    for (const i of [0, 1, 2]) expect(Math.abs(a![i]!)).toBeLessThan(1e-30);
    for (const i of [0, 1, 2]) expect(Math.abs(du![i]!)).toBeLessThan(1e-30);
    expect(a![4]).toBe(0);
  });
});
