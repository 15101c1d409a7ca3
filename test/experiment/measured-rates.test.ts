import { describe, expect, it } from "vitest";
import { type MeasuredRate, readMeasuredRates, trainingSeconds } from "../../src/experiment/measured-rates.js";
import { dataFile } from "../data/data-folder.js";

const rate = (parameters: number, tokensPerSecond: number, more: Partial<MeasuredRate> = {}): MeasuredRate => ({
  ...{ method: "lora", device: "cuda:0", dtype: "bf16", parameters, tokensPerSecond, flopsPerToken: 4 * parameters },
  ...more,
});
const work = { method: "lora", device: "cuda", dtype: "bf16", parameters: 1e9, flops: 4e15 } as const;

describe("time from measured rates", () => {
  it("is work over the rate of the model of the nearest size", () => {
    expect(trainingSeconds([rate(1e8, 1), rate(8e8, 1000), rate(7e9, 1)], work)).toBeCloseTo(4e15 / (1000 * 4 * 8e8), 10);
  });

  it("is not known from another method, type or kind of device", () => {
    const others = [rate(1e9, 1, { method: "fft" }), rate(1e9, 1, { dtype: "fp32" }), rate(1e9, 1, { device: "cpu" })];
    expect(trainingSeconds(others, work)).toBeNull();
  });

  it("comes from a bench report, and from nothing else", async () => {
    const good = await dataFile("bench.json", { machine: {}, cases: [{ ...rate(1e9, 5), key: "k" }] });
    expect(await readMeasuredRates(good)).toEqual([rate(1e9, 5)]);
    await expect(readMeasuredRates(await dataFile("other.json", { cases: [] }))).rejects.toThrow(/not a report of `polypaca bench --save`/);
    await expect(readMeasuredRates("/nowhere.json")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});
