import { describe, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { embeddingBackward, embeddingForward } from "../reference/embedding.js";
import { RandomValues } from "../reference/random-values.js";
import { tolerance } from "../tolerances.js";
import { computeDTypes, plus, probe, rounded } from "./probe.js";

const cases = computeDTypes.flatMap((dtype) =>
  [
    { N: 1, V: 1, C: 37 },
    { N: 200, V: 7, C: 130 },
    { N: 40, V: 50, C: 1 },
  ].map((shape) => ({ dtype, ...shape })),
);

describe.each(cases)("embedding $dtype N=$N V=$V C=$C", ({ dtype, N, V, C }) => {
  const random = new RandomValues(N + V + C);
  const table = rounded(random.normal(V * C), dtype);
  const ids = Int32Array.from({ length: N }, () => random.integer(V));
  const dx = random.normal(N * C);
  const settings = { dtype, residualDtype: "fp32", V, C, padding: 2, ids };

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
