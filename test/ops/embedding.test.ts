import { describe, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { embeddingBackward, embeddingForward } from "../reference/embedding.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { plus, probe, probeRepeatedly, rounded, storedDTypes } from "./probe.js";

const cases = storedDTypes.flatMap((dtype) =>
  [
    { N: 1, V: 1, C: 37 },
    { N: 200, V: 7, C: 130 },
    { N: 40, V: 50, C: 1 },
    // Rows on 16 bytes; ids so frequent that their tokens are shared by several blocks, and more tokens than are sorted at once.
    { N: 300, V: 3, C: 64, padding: 8 },
    { N: 65, V: 1, C: 1032, padding: 0 },
    { N: 9000, V: 11, C: 8, padding: 0 },
  ].map((shape) => ({ dtype, padding: 2, ...shape })),
);

describe.each(cases)("embedding $dtype N=$N V=$V C=$C", ({ dtype, N, V, C, padding }) => {
  const random = new RandomValues(N + V + C);
  const table = rounded(random.normal(V * C), dtype);
  const ids = Int32Array.from({ length: N }, () => random.integer(V));
  const dx = random.normal(N * C);
  const settings = { dtype, residualDtype: "fp32", V, C, padding, ids };

  it("forward copies rows into the residual stream", () => {
    const { x } = probe("embedding_forward", { ...settings, table });
    expectSame(x, Float32Array.from(embeddingForward(table, ids, C)));
  });

  it("backward adds every occurrence of an id", () => {
    const dTable = random.normal(V * C);
    const result = probe("embedding_backward", { ...settings, dx, dTable });
    expectClose(result.dTable, plus(dTable, embeddingBackward(dx, ids, V, C)), tolerance("sum", "fp32", "backward", N));
  });
});

describe("embedding_backward", () => {
  it("gives the same bits in every order of threads, and sums the gradient as it is stored", () => {
    const [N, V, C] = [150, 4, 24];
    const random = new RandomValues(12);
    const ids = Int32Array.from({ length: N }, () => random.integer(V));
    const dx = rounded(random.normal(N * C), "bf16");
    const { dTable } = probeRepeatedly("embedding_backward", { dtype: "bf16", V, C, ids, dx });
    expectClose(dTable, embeddingBackward(dx, ids, V, C), tolerance("sum", "fp32", "backward", N));
  });
});
