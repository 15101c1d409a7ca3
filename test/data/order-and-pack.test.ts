import { describe, expect, it } from "vitest";
import { epochOrder, ignoredLabel, type PackedStep, packStep, splitValidation } from "../../src/data/index.js";
import { CounterRandom, philox, randomPurpose, randomRank } from "../../src/data/philox.js";
import { philox4x32 } from "../reference/philox.js";
import { numbersFrom } from "./data-folder.js";

describe("philox", () => {
  it("gives the published words and those of the reference", () => {
    // Known-answer tests of the authors' Random123 library.
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    const random = numbersFrom(1);
    const word = (): number => random(2 ** 32);
    for (let round = 0; round < 200; round++) {
      const counter = [word(), word(), word(), word()] as const;
      const key = [word(), word()] as const;
      expect(philox(counter, key)).toEqual(philox4x32(10, counter, key));
    }
  });

  it("draws below a limit without bias", () => {
    const random = new CounterRandom(3, randomPurpose.epochOrder);
    const counts = [0, 0, 0, 0, 0, 0];
    for (let i = 0; i < 12_000; i++) counts[random.below(6)]!++;
    // Five standard deviations of a binomial count.
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt((12_000 * 5) / 36));
  });
});

describe("randomRank", () => {
  const rank = (stream: number, item: number, seed = 42): number => randomRank(seed, randomPurpose.sample, stream, item);

  it("is a whole number below 2^53 that depends on seed, purpose, list and item", () => {
    const ranks = [
      rank(0, 0),
      rank(0, 1),
      rank(1, 0),
      rank(0, 0, 43),
      rank(0, 0, 42 + 2 ** 32),
      randomRank(42, randomPurpose.lineOrder, 0, 0),
    ];
    expect(new Set(ranks).size).toBe(ranks.length);
    for (const value of ranks) expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
    expect(rank(0, 0)).toBe(ranks[0]);
  });

  it("is above and below the middle equally often, in the high bits and in the low ones", () => {
    const ranks = Array.from({ length: 10_000 }, (_, item) => rank(7, item));
    // Five standard deviations of a binomial count.
    expect(Math.abs(ranks.filter((value) => value < 2 ** 52).length - 5000)).toBeLessThan(250);
    expect(Math.abs(ranks.filter((value) => value % 2 === 0).length - 5000)).toBeLessThan(250);
  });
});

describe("epochOrder", () => {
  it("takes every example once, the same under the same seed, otherwise in every epoch and under every seed", () => {
    for (const n of [1, 2, 37, 1000]) {
      expect([...epochOrder(n, 42, 0)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      expect(epochOrder(n, 42, 3)).toEqual(epochOrder(n, 42, 3));
    }
    const orders = [epochOrder(50, 42, 0), epochOrder(50, 42, 1), epochOrder(50, 43, 0), epochOrder(50, 42 + 2 ** 32, 0)];
    expect(new Set(orders.map(String)).size).toBe(4);
    expect(epochOrder(0, 1, 0)).toHaveLength(0);
  });

  it("puts each example everywhere equally often", () => {
    const first = [0, 0, 0, 0, 0];
    for (let epoch = 0; epoch < 5000; epoch++) first[epochOrder(5, 7, epoch)[0]!]!++;
    for (const count of first) expect(Math.abs(count - 1000)).toBeLessThan(5 * Math.sqrt(5000 * 0.2 * 0.8));
  });

  it("never changes, so that runs can be resumed by later builds", () => {
    expect([...epochOrder(10, 42, 0)]).toMatchInlineSnapshot(`
      [
        5,
        1,
        8,
        4,
        7,
        6,
        3,
        0,
        2,
        9,
      ]
    `);
  });
});

describe("splitValidation", () => {
  const examples = Array.from({ length: 40 }, (_, i) => i);

  it("parts the data by the seed and keeps the order in both parts", () => {
    const { training, validation } = splitValidation(examples, 7, 42);
    expect(validation).toHaveLength(7);
    expect([...training, ...validation].sort((a, b) => a - b)).toEqual(examples);
    for (const part of [training, validation]) expect(part).toEqual([...part].sort((a, b) => a - b));
    expect(splitValidation(examples, 7, 42)).toEqual({ training, validation });
    expect(splitValidation(examples, 7, 43).validation).not.toEqual(validation);
    expect(splitValidation(examples, 0, 42)).toEqual({ training: examples, validation: [] });
  });

  it("holds out half at most", () => {
    expect(splitValidation(examples, 20, 1).validation).toHaveLength(20);
    expect(() => splitValidation(examples, 21, 1)).toThrow(
      expect.objectContaining({ code: "BAD_DATA", message: expect.stringMatching(/--validation-size 21 is more than half of the 40/) }),
    );
  });
});

interface Generated {
  readonly inputIds: Int32Array;
  readonly labels: Int32Array;
  readonly targetTokens: number;
  readonly place: { readonly file: string; readonly index: number; readonly line: number; readonly column: number };
}

function examplesOf(lengths: readonly number[], masked: (index: number) => number = () => 0): Generated[] {
  return lengths.map((length, index) => {
    const inputIds = Int32Array.from({ length }, (_, t) => 1000 * index + t);
    const labels = inputIds.slice().fill(ignoredLabel, 0, masked(index));
    const place = { file: "data.jsonl", index, line: index + 1, column: 1 };
    return { inputIds, labels, targetTokens: labels.subarray(1).filter((label) => label !== ignoredLabel).length, place };
  });
}

/** The sequences of a packed step by their index in the step, as they went in. */
function unpack({ microBatches }: PackedStep): Map<number, { inputIds: Int32Array; labels: Int32Array }> {
  const sequences = new Map<number, { inputIds: Int32Array; labels: Int32Array }>();
  for (const { inputIds, labels, sequenceLengths, exampleIndices } of microBatches) {
    let at = 0;
    sequenceLengths.forEach((length, s) => {
      sequences.set(exampleIndices[s]!, { inputIds: inputIds.subarray(at, at + length), labels: labels.subarray(at, at + length) });
      at += length;
    });
    expect(at).toBe(inputIds.length);
    expect(labels).toHaveLength(inputIds.length);
  }
  return sequences;
}

describe("packStep", () => {
  it("packs every example once and whole within the capacity, for any lengths", () => {
    const random = numbersFrom(9);
    for (let round = 0; round < 200; round++) {
      const capacity = 8 + random(60);
      const lengths = Array.from({ length: 1 + random(40) }, () => 1 + random(capacity));
      const examples = examplesOf(lengths, (index) => index % 5);
      const packed = packStep(examples, capacity);
      const sequences = unpack(packed);
      expect([...sequences.keys()].sort((a, b) => a - b)).toEqual(lengths.map((_, i) => i));
      for (const [index, { inputIds, labels }] of sequences)
        expect({ inputIds, labels }).toEqual({ inputIds: examples[index]!.inputIds, labels: examples[index]!.labels });
      const tokens = lengths.reduce((sum, length) => sum + length, 0);
      expect(packed.tokens).toBe(tokens);
      expect(packed.targetTokens).toBe(examples.reduce((sum, { targetTokens }) => sum + targetTokens, 0));
      for (const { inputIds } of packed.microBatches) expect(inputIds.length).toBeLessThanOrEqual(capacity);
      // First-fit decreasing: at most 11/9 of the best, plus one.
      expect(packed.microBatches.length).toBeLessThanOrEqual((11 / 9) * lowerBound(lengths, capacity) + 1);
      expect(packStep(examples, capacity)).toEqual(packed);
    }
  });

  it("takes the longest first, each into the first micro-batch with room", () => {
    const { microBatches } = packStep(examplesOf([3, 7, 5, 2, 3]), 10);
    expect(microBatches.map(({ exampleIndices, sequenceLengths }) => [[...exampleIndices], [...sequenceLengths]])).toEqual([
      [
        [0, 1],
        [3, 7],
      ],
      [
        [2, 3, 4],
        [5, 2, 3],
      ],
    ]);
  });

  it("makes a micro-batch per example when packing is off", () => {
    const { microBatches, targetTokens } = packStep(examplesOf([3, 7, 5]), 10, { packing: false });
    expect(microBatches.map(({ sequenceLengths }) => [...sequenceLengths])).toEqual([[3], [7], [5]]);
    expect(targetTokens).toBe(2 + 6 + 4);
  });

  it("refuses an example that is longer than a micro-batch, naming it", () => {
    expect(() => packStep(examplesOf([3, 11]), 10)).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/data\.jsonl line 2: the example has 11 tokens, --micro-batch-tokens is 10/),
      }),
    );
  });
});

/** No packing needs fewer micro-batches than this: by tokens, and by examples of which no two share one. */
function lowerBound(lengths: readonly number[], capacity: number): number {
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  return Math.max(Math.ceil(tokens / capacity), lengths.filter((length) => length > capacity / 2).length);
}
