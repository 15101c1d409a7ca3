import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { linearBackward, linearForward } from "../reference/linear.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { computeDTypes, plus, probe, probeRepeatedly, rounded, scaled, storedDTypes } from "./probe.js";

const shapes = [
  { N: 1, rows: 5, cols: 37 },
  { N: 7, rows: 33, cols: 1 },
  { N: 3, rows: 1, cols: 64 },
  { N: 65, rows: 96, cols: 130 },
  { N: 129, rows: 260, cols: 72 },
];
const cases = computeDTypes.flatMap((dtype) => [false, true].flatMap((trained) => shapes.map((shape) => ({ dtype, trained, ...shape }))));

describe.each(cases)("linear $dtype trained=$trained N=$N rows=$rows cols=$cols", ({ dtype, trained, N, rows, cols }) => {
  const random = new RandomValues(N + rows + cols);
  const x = rounded(random.normal(N * cols), dtype);
  const w = rounded(random.normal(rows * cols), dtype);
  const dy = rounded(random.normal(N * rows), dtype);
  const [bias, y, dx, dw, db] = [rows, N * rows, N * cols, rows * cols, rows].map((count) => random.normal(count)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const shape = { N, rows, cols };
  const settings = { dtype, ...shape, trained, padding: 3 };
  const gradients = linearBackward(dy, x, w, shape);

  it("forward assigns y with bias, and adds to the residual stream with beta 1", () => {
    const expected = linearForward(x, w, bias, shape);
    const assigned = probe("linear_forward", { ...settings, x, w, bias });
    expectClose(assigned.y, expected, tolerance("linear", dtype, "forward", cols));
    const added = probe("linear_forward", { ...settings, residualDtype: "fp32", x, w, bias, y, beta: 1 });
    expectClose(added.y, plus(y, expected), tolerance("linear", "fp32", "forward", cols));
  });

  it.each([1, 8, 24])("forward adds the adapter's share of rank %i, with and without bias", (R) => {
    const h = rounded(random.normal(N * R), dtype);
    const up = rounded(random.normal(rows * R), dtype);
    const share = linearForward(h, up, null, { N, rows, cols: R });
    for (const given of [bias, null]) {
      const result = probe("linear_forward", { ...settings, x, w, bias: given, R, h, up });
      expectClose(result.y, plus(linearForward(x, w, given, shape), share), tolerance("linear", dtype, "forward", cols + R));
    }
  });

  it("backward_input assigns dx with beta 0 and adds with beta 1", () => {
    const assigned = probe("linear_backward_input", { ...settings, dy, w });
    expectClose(assigned.dx, gradients.dx, tolerance("linear", dtype, "backward", rows));
    const added = probe("linear_backward_input", { ...settings, residualDtype: "fp32", dy, w, dx, beta: 1 });
    expectClose(added.dx, plus(dx, gradients.dx), tolerance("linear", "fp32", "backward", rows));
  });

  it("backward_weight gives beta dw + alpha dy^T x in fp32", () => {
    const assigned = probe("linear_backward_weight", { ...settings, dy, x });
    expectClose(assigned.dw, gradients.dw, tolerance("linear", "fp32", "backward", N));
    const added = probe("linear_backward_weight", { ...settings, dy, x, dw, alpha: 0.5, beta: 1 });
    expectClose(added.dw, plus(dw, scaled(gradients.dw, 0.5)), tolerance("linear", "fp32", "backward", N));
  });

  it("backward takes the fp32 gradient of the residual stream", () => {
    for (const [op, args, output] of [
      ["linear_backward_input", { w }, "dx"],
      ["linear_backward_weight", { x }, "dw"],
    ] as const) {
      const narrow = probe(op, { ...settings, dy, ...args });
      expectSame(probe(op, { ...settings, gradientDtype: "fp32", dy, ...args })[output], narrow[output]);
    }
  });

  it("backward_bias adds the column sums in fp32", () => {
    const result = probe("linear_backward_bias", { ...settings, dy, db });
    expectClose(result.db, plus(db, gradients.db), tolerance("sum", "fp32", "backward", 4 * N));
    expect(result.db).toHaveLength(rows);
  });
});

describe.each(storedDTypes)("linear_backward_bias %s", (dtype) => {
  it.each([
    { N: 1, rows: 37, padding: 3 },
    { N: 70, rows: 300, padding: 0 },
    { N: 200, rows: 264, padding: 8 },
  ])("adds the column sums of $N rows of $rows, the same in every order of threads", ({ N, rows, padding }) => {
    const random = new RandomValues(N + rows);
    const dy = rounded(random.normal(N * rows), dtype);
    const db = random.normal(rows);
    const expected = dy.reduce((sums, value, i) => {
      sums[i % rows]! += value;
      return sums;
    }, Float64Array.from(db));
    const result = probeRepeatedly("linear_backward_bias", { dtype, N, rows, padding, dy, db });
    expectClose(result.db, expected, tolerance("sum", "fp32", "backward", 4 * N));
  });
});
