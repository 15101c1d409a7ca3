import { describe, expect, it } from "vitest";
import type { MemoryPlan } from "../../src/native/addon-types.js";
import { chooseMicroBatch, type MicroBatchRequest } from "../../src/train/memory.js";

const mib = 2 ** 20;

/** 100 MiB of weights and 1 MiB per token. */
function planFor(tokens: number): MemoryPlan {
  const parts = { weights: 100 * mib, gradients: 0, optimizer: 0, activations: tokens * mib, head: 0, scratch: 0 };
  return { ...parts, total: parts.weights + parts.activations };
}

function request(parts: Partial<MicroBatchRequest>): MicroBatchRequest {
  return { requested: null, cutoff: 512, device: "cpu", availableBytes: 1e15, allowOvercommit: false, planFor, ...parts };
}

describe("chooseMicroBatch", () => {
  it("takes at most 2,048 tokens on the CPU and 8,192 on CUDA", () => {
    expect(chooseMicroBatch(request({})).microBatchTokens).toBe(2048);
    expect(chooseMicroBatch(request({ device: "cuda:0" })).microBatchTokens).toBe(8192);
  });

  it("holds an example of the cutoff even beyond that", () => {
    expect(chooseMicroBatch(request({ cutoff: 4096 })).microBatchTokens).toBe(4096);
  });

  it("takes the largest multiple of 64 that fits the memory", () => {
    const { microBatchTokens, plan } = chooseMicroBatch(request({ availableBytes: (100 + 1500) * mib }));
    expect(microBatchTokens).toBe(1472);
    expect(plan.total).toBe((100 + 1472) * mib);
  });

  it("falls back to the cutoff where only that fits", () => {
    expect(chooseMicroBatch(request({ cutoff: 500, availableBytes: (100 + 505) * mib })).microBatchTokens).toBe(500);
  });

  it("refuses with figures what does not fit", () => {
    expect(() => chooseMicroBatch(request({ availableBytes: 300 * mib }))).toThrow(
      expect.objectContaining({
        code: "OUT_OF_MEMORY",
        message: expect.stringMatching(
          /512 tokens needs 612 MiB \(weights 100,.*activations 512.*300 MiB are available.*--allow-overcommit/,
        ),
      }),
    );
  });

  it("refuses a requested size that does not fit, unless overcommit is allowed", () => {
    const parts = { requested: 1000, availableBytes: 300 * mib };
    expect(() => chooseMicroBatch(request(parts))).toThrow("micro-batches of 1000 tokens");
    expect(chooseMicroBatch(request({ ...parts, allowOvercommit: true })).microBatchTokens).toBe(1000);
  });
});
