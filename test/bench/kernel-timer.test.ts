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
    const inCache = { fp32: [7, 9, 1], bf16: [30, 10, 20] };
    const measurePeak = async (dtype: "fp32" | "bf16") => inCache[dtype].pop()!;
    const gemm = new GemmPeak({ timeKernel, measurePeak } as unknown as Addon, "cpu");
    for (let sample = 0; sample < 3; sample++) await gemm.sample();
    expect(gemm.samples).toBe(3);
    expect(gemm.peak("fp32")).toBeCloseTo(10 * peakProducts.length);
    expect(gemm.peak("bf16")).toBeCloseTo(20 * peakProducts.length);
    expect(gemm.products("bf16")[0]).toMatchObject({ ...peakProducts[0], gflops: expect.closeTo(20) });
    expect(gemm.microKernel()).toEqual({ fp32: 7, bf16: 20 });
  });

  it("of a GPU is the median of what its back end reaches in bf16, and none in fp32", async () => {
    const rates = [700e3, 790e3, 100e3];
    const calls: unknown[][] = [];
    const measurePeak = async (...args: unknown[]) => rates[calls.push(args) - 1]!;
    const gemm = new GemmPeak({ measurePeak } as unknown as Addon, "cuda", 30);
    for (let sample = 0; sample < 3; sample++) await gemm.sample();
    expect(calls[0]).toEqual(["bf16", 30, "cuda"]);
    expect({ samples: gemm.samples, bf16: gemm.peak("bf16"), fp32: gemm.peak("fp32") }).toEqual({ samples: 3, bf16: 700e3, fp32: null });
    expect(gemm.products("bf16")).toEqual([]);
    expect(gemm.microKernel()).toBeNull();
  });
});
