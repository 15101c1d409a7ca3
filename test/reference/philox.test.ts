import { describe, expect, it } from "vitest";
import { dropoutMask, philox4x32, type Words4 } from "./philox.js";

// Known-answer vectors of Random123 (tests/kat_vectors): rounds, counter, key, output.
const knownAnswers = [
  "7 00000000 00000000 00000000 00000000 00000000 00000000 5f6fb709 0d893f64 4f121f81 4f730a48",
  "7 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 5207ddc2 45165e59 4d8ee751 8c52f662",
  "7 243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 4dfccaba 190a87f0 c47362ba b6b5242a",
  "10 00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
  "10 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
  "10 243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
];

describe("philox4x32", () => {
  it.each(knownAnswers)("gives the published answer: %s", (line) => {
    const [rounds, ...words] = line.split(" ");
    const [c0, c1, c2, c3, k0, k1, ...expected] = words.map((word) => Number.parseInt(word, 16)) as [
      ...Words4,
      number,
      number,
      ...number[],
    ];
    expect(philox4x32(Number(rounds), [c0, c1, c2, c3], [k0, k1])).toEqual(expected);
  });
});

describe("dropout mask", () => {
  const settings = { rate: 0.25, key: [17, 4] as const, site: 5, positions: [0, 1, 2, 0], examples: [0, 0, 0, 1] };

  it("keeps about 1 - rate of the elements and scales them by 1 / (1 - rate)", () => {
    const mask = dropoutMask(4, 2000, settings);
    const kept = mask.filter((factor) => factor !== 0);
    expect(kept.every((factor) => factor === 4 / 3)).toBe(true);
    expect(Math.abs(kept.length / mask.length - 0.75)).toBeLessThan(0.02); // four standard deviations of 8,000 draws
  });

  it("depends on position, example and site, not on where the token is in the batch", () => {
    const row = (n: number, mask: Float64Array) => [...mask.subarray(n * 64, (n + 1) * 64)];
    const mask = dropoutMask(4, 64, settings);
    const reversed = dropoutMask(4, 64, { ...settings, positions: [0, 2, 1, 0], examples: [1, 0, 0, 0] });
    for (let n = 0; n < 4; n++) expect(row(n, reversed)).toEqual(row(3 - n, mask));
    expect(row(0, mask)).not.toEqual(row(3, mask));
    expect(row(0, mask)).not.toEqual(row(0, dropoutMask(4, 64, { ...settings, site: 6 })));
  });

  it("keeps everything at rate 0", () => {
    expect([...dropoutMask(4, 16, { ...settings, rate: 0 })]).toEqual(Array(64).fill(1));
  });
});
