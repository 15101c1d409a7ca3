import { describe, expect, it } from "vitest";
import { benchShapes } from "../../src/bench/cases.js";
import { GemmPeak, peakProducts } from "../../src/bench/gemm-peak.js";
import { kernelPlans } from "../../src/bench/kernels.js";
import type { Addon, KernelShape } from "../../src/native/addon-types.js";
import { loadAddon } from "../../src/native/load.js";
import { noShapeFlags } from "./shapes.js";

describe("timeKernel", () => {
  it("runs every kernel of a step of each family, three times at least", async () => {
    for (const shape of benchShapes({
      ...noShapeFlags,
      archs: ["bloom", "gpt_neox", "llama"],
      hidden: 32,
      layers: 1,
      vocab: 50,
      seq: 6,
      microBatch: 2,
    })) {
      for (const dtype of ["fp32", "bf16"] as const) {
        for (const { kernel, op, shape: sizes } of kernelPlans(shape, dtype, { rank: 2, dropout: 0.1 })) {
          const { seconds, fastest, calls } = await loadAddon().timeKernel(op, sizes, 0);
          expect(calls, kernel).toBeGreaterThanOrEqual(3);
          expect(fastest, kernel).toBeGreaterThan(0);
          expect(seconds, kernel).toBeGreaterThanOrEqual(fastest);
        }
      }
    }
  });

  it("refuses an operation that it does not know", () => {
    expect(() => loadAddon().timeKernel("no_such_op", { dtype: "fp32" }, 1)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining("no_such_op") }),
    );
  });
});

describe("the GEMM peak", () => {
  it("is the fastest product's median over the samples", async () => {
    // A product takes as long as its place in the list says, in the second sample ten times as long.
    let call = 0;
    const timeKernel = async (_op: string, { dtype, N, rows, cols }: KernelShape) => {
      const place = call++ % peakProducts.length;
      const sample = Math.floor((call - 1) / (2 * peakProducts.length));
      const gflops = (place + 1) * (dtype === "bf16" ? 20 : 10) * (sample === 1 ? 0.1 : 1);
      return { seconds: (2 * N! * rows! * cols!) / (gflops * 1e9), fastest: 0, calls: 3 };
    };
    const gemm = new GemmPeak({ timeKernel } as unknown as Addon);
    for (let sample = 0; sample < 3; sample++) await gemm.sample();
    expect(gemm.samples).toBe(3);
    expect(gemm.peak("fp32")).toBeCloseTo(10 * peakProducts.length);
    expect(gemm.peak("bf16")).toBeCloseTo(20 * peakProducts.length);
    expect(gemm.products("bf16")[0]).toMatchObject({ ...peakProducts[0], gflops: expect.closeTo(20) });
  });
});
