import { describe, expect, it } from "vitest";
import { paddedTokens } from "../../src/train/preview.js";

describe("paddedTokens", () => {
  it("pads every example to the longest of its micro-batch", () => {
    expect(paddedTokens([10, 2, 5], 100)).toBe(30);
  });

  it("begins a new micro-batch where the padded rows would pass the capacity", () => {
    // [10, 2] take 20 of 24; with 5 they would take 30.
    expect(paddedTokens([10, 2, 5, 5], 24)).toBe(20 + 10);
    // 9 would pad the two 2s to 27.
    expect(paddedTokens([2, 2, 9], 24)).toBe(4 + 9);
  });

  it("is what packing takes where all lengths are the same", () => {
    expect(paddedTokens([8, 8, 8, 8, 8], 16)).toBe(40);
    expect(paddedTokens([], 16)).toBe(0);
  });
});
