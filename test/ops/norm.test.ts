import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { layerNormBackward, layerNormForward } from "../reference/layer-norm.js";
import { RandomValues } from "../reference/random-values.js";
import { rmsNormBackward, rmsNormForward } from "../reference/rms-norm.js";
import { tolerance } from "../tolerances.js";
import { plus, probe, probeRepeatedly, rounded, storedDTypes } from "./probe.js";

const epsilon = 1e-5;
const shapes = [
  { N: 1, C: 37, padding: 3 },
  { N: 5, C: 5, padding: 3 },
  { N: 131, C: 64, padding: 3 },
  { N: 3, C: 1100, padding: 3 },
  { N: 70, C: 515, padding: 3 },
  // Rows on 16 bytes, in vectors: some to a warp or a block, and one that is too long for registers.
  { N: 1, C: 8, padding: 0 },
  { N: 131, C: 64, padding: 8 },
  { N: 9, C: 1104, padding: 0 },
  { N: 35, C: 2056, padding: 8 },
  { N: 2, C: 8200, padding: 0 },
];
const kinds = ["rms", "layer"] as const;
const cases = kinds.flatMap((kind) => storedDTypes.flatMap((dtype) => shapes.map((shape) => ({ kind, dtype, ...shape }))));

type Case = (typeof cases)[number];

/** The residual stream in fp32, what enters and leaves the layers in `dtype`: as the decoder calls norms. */
function makeInputs({ kind, dtype, N, C, padding }: Case) {
  const random = new RandomValues(N * 1000 + C);
  const inputs = {
    x: random.normal(N * C, 2, 0.5),
    w: random.normal(C, 0.2, 1),
    b: kind === "layer" ? random.normal(C) : null,
    dy: rounded(random.normal(N * C), dtype),
    dx: random.normal(N * C),
    dw: random.normal(C),
    db: kind === "layer" ? random.normal(C) : null,
  };
  const settings = { kind, dtype, residualDtype: "fp32", N, C, padding };
  return { ...inputs, settings };
}

function referenceForward({ kind, N, C }: Case, { x, w, b }: ReturnType<typeof makeInputs>) {
  const shape = { N, C, epsilon };
  return kind === "layer" ? layerNormForward(x, w, b!, shape) : { ...rmsNormForward(x, w, shape), mean: null };
}

describe.each(cases)("norm $kind $dtype N=$N C=$C padding=$padding", (aCase) => {
  const { kind, dtype, N, C } = aCase;
  const inputs = makeInputs(aCase);
  const { x, w, b, dy, dx, dw, db, settings } = inputs;
  const expected = referenceForward(aCase, inputs);
  const forward = probe("norm_forward", { ...settings, x, w, b, epsilon });
  const statistics = { mean: forward.mean ?? null, rstd: forward.rstd! };
  const shape = { N, C, epsilon };
  const gradients = kind === "layer" ? layerNormBackward(dy, x, w, shape) : { ...rmsNormBackward(dy, x, w, shape), db: null };
  const toleranceOfGradients = tolerance("norm", "fp32", "backward");

  it("forward assigns y and the statistics", () => {
    expectClose(forward.y, expected.y, tolerance("norm", dtype, "forward"));
    expectClose(forward.rstd, expected.rstd, tolerance("norm", "fp32", "forward"));
    if (expected.mean) expectClose(forward.mean, expected.mean, tolerance("norm", "fp32", "forward"));
  });

  it("recompute writes what forward wrote, bit for bit", () => {
    const again = probe("norm_recompute", { ...settings, ...statistics, x, w, b });
    expectSame(again.y, forward.y);
  });

  it("backward assigns dx with beta 0 and adds dw and db", () => {
    const result = probe("norm_backward", { ...settings, ...statistics, x, w, dy, beta: 0, dw, db });
    expectClose(result.dx, gradients.dx, toleranceOfGradients);
    expectClose(result.dw, plus(dw, gradients.dw), tolerance("normWeight", "fp32", "backward", N));
    if (gradients.db) expectClose(result.db, plus(db!, gradients.db), tolerance("normWeight", "fp32", "backward", N));
  });

  it("backward adds dx with beta 1, and leaves frozen weights alone", () => {
    const result = probe("norm_backward", { ...settings, ...statistics, x, w, dy, beta: 1, dx });
    expectClose(result.dx, plus(dx, gradients.dx), toleranceOfGradients);
    expect(Object.keys(result)).toEqual(["dx"]);
  });
});

describe.each(kinds)("norm %s", (kind) => {
  const [N, C] = [75, 72];
  const random = new RandomValues(7);
  const args = { kind, dtype: "bf16", N, C, w: random.normal(C, 0.2, 1) };
  const x = rounded(random.normal(N * C), "bf16");
  const dy = rounded(random.normal(N * C), "bf16");
  const b = kind === "layer" ? random.normal(C) : null;

  it("forward may write over its input", () => {
    const { y, ...statistics } = probe("norm_forward", { ...args, x, b, epsilon });
    const inPlace = probe("norm_forward", { ...args, x, b, epsilon, inPlace: true });
    expectSame(inPlace.x, y);
    expectSame(inPlace.rstd, statistics.rstd);
  });

  it("gives the same bits in every order of threads, all in bf16", () => {
    const { y, rstd, mean } = probeRepeatedly("norm_forward", { ...args, x, b, epsilon });
    expect(y).toHaveLength(N * C);
    const ones = new Float32Array(C).fill(1);
    const added = { dw: ones, db: kind === "layer" ? ones : null, dx: x, beta: 1 };
    const result = probeRepeatedly("norm_backward", { ...args, x, dy, rstd: rstd!, mean: mean ?? null, ...added });
    const shape = { N, C, epsilon };
    const gradients = kind === "layer" ? layerNormBackward(dy, x, args.w, shape) : rmsNormBackward(dy, x, args.w, shape);
    expectClose(result.dx, plus(x, gradients.dx), tolerance("norm", "bf16", "backward"));
  });
});

describe("norm", () => {
  it("layer keeps its digits where the mean is a thousand times the deviation", () => {
    const [N, C] = [2, 300];
    const random = new RandomValues(3);
    const x = random.normal(N * C, 1, 1000);
    const [w, b] = [new Float32Array(C).fill(1), new Float32Array(C)];
    const { y } = probe("norm_forward", { kind: "layer", N, C, x, w, b, epsilon });
    // The mean itself is rounded to fp32: half an ulp of 1000 is 3e-5 of a standard deviation.
    expectClose(y, layerNormForward(x, w, b, { N, C, epsilon }).y, { atol: 2 ** -15, rtol: 0, reason: "mean stored as fp32" });
  });

  it("sums dw in an order that does not depend on where a token is cut off", () => {
    const [N, C] = [200, 130];
    const random = new RandomValues(4);
    const args = { kind: "rms", C, w: random.normal(C) };
    const [x, dy] = [random.normal(N * C), random.normal(N * C)];
    const run = (from: number, to: number, dw: Float32Array) => {
      const rows = { N: to - from, x: x.slice(from * C, to * C), dy: dy.slice(from * C, to * C) };
      const { rstd } = probe("norm_forward", { ...args, ...rows, epsilon });
      return probe("norm_backward", { ...args, ...rows, rstd: rstd!, dw }).dw!;
    };
    // Blocks of 16 tokens are the unit of summation: a cut at 64 leaves the additions as they are.
    expectSame(run(64, N, run(0, 64, new Float32Array(C))), run(0, N, new Float32Array(C)));
  });
});
