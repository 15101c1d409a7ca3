import { cpSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compareLogits, mergeAdapter } from "../../src/models/merge.js";

const goldens = join(import.meta.dirname, "../goldens");

describe("compareLogits", () => {
  it("measures the largest error against the largest logit, and the L2 norms", () => {
    const errors = compareLogits([Float32Array.of(3, -4), Float32Array.of(0)], [Float32Array.of(3, -3), Float32Array.of(0)]);
    expect(errors).toEqual({ maxRelativeError: 1 / 4, relativeL2: 1 / 5 });
  });

  it("is NaN, and so never within a tolerance, where a logit is NaN or missing", () => {
    expect(compareLogits([Float32Array.of(1, 2)], [Float32Array.of(1, Number.NaN)]).relativeL2).toBeNaN();
    expect(compareLogits([Float32Array.of(1, 2)], [Float32Array.of(1)]).relativeL2).toBeNaN();
  });
});

describe("mergeAdapter", () => {
  it.each(["01-bloom-h4", "06-llama-gqa", "07-baichuan2-rope"])("of %s equals base and adapter in logits", async (name) => {
    const model = join(goldens, name);
    const out = join(mkdtempSync(join(tmpdir(), "polypaca-merge-")), "merged");
    const result = await mergeAdapter({ model, adapter: join(model, "adapter"), out, device: "cpu", verify: true });
    expect(result.verification?.relativeL2).toBeLessThan(result.verification!.tolerance);
  });

  it("refuses a folder that holds something before any work", async () => {
    const out = mkdtempSync(join(tmpdir(), "polypaca-merge-"));
    writeFileSync(join(out, "mine.txt"), "");
    await expect(mergeAdapter({ model: "nowhere", adapter: "nowhere", out, verify: false })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("mine.txt"),
    });
  });

  it("leaves nothing where the adapter is damaged", async () => {
    const base = mkdtempSync(join(tmpdir(), "polypaca-merge-"));
    const adapter = join(base, "adapter");
    cpSync(join(goldens, "01-bloom-h4/adapter"), adapter, { recursive: true });
    const weights = join(adapter, "adapter_model.safetensors");
    writeFileSync(weights, readFileSync(weights).subarray(0, -8));
    const merging = mergeAdapter({ model: join(goldens, "01-bloom-h4"), adapter, out: join(base, "merged"), device: "cpu", verify: false });
    await expect(merging).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
    expect(() => readFileSync(join(base, "merged/config.json"))).toThrow("ENOENT");
  });
});
