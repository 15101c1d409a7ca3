/**
 * Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four random words are a function of a key and
 * a counter, so that any draw can be made again without replaying those before it.
 */

/** What random numbers are for: draws of different purposes never share a counter. */
export const randomPurpose = {
  ...{ epochOrder: 1, validationSplit: 2 },
  ...{ sample: 3, lineOrder: 4, seedOrder: 5, seedDeal: 6 },
  ...{ bootstrap: 16, signFlips: 17 },
} as const;
export type RandomPurpose = (typeof randomPurpose)[keyof typeof randomPurpose];

/** A sequence of draws under (seed, purpose, epoch). */
export class CounterRandom {
  readonly #key: readonly [number, number];
  readonly #purpose: number;
  readonly #epoch: number;
  #block = 0;
  #words: readonly number[] = [];

  /** @param seed an integer, 0 to 2^53 - 1 */
  constructor(seed: number, purpose: RandomPurpose, epoch = 0) {
    this.#key = keyOf(seed);
    this.#purpose = purpose;
    this.#epoch = epoch;
  }

  /** 0 to 2^32 - 1. */
  uint32(): number {
    if (this.#words.length === 0) this.#words = philox([this.#block++, this.#epoch, this.#purpose, 0], this.#key);
    const [word, ...rest] = this.#words;
    this.#words = rest;
    return word!;
  }

  /** 0 to `limit` - 1, each equally likely: words beyond the last whole multiple of `limit` are drawn again. */
  below(limit: number): number {
    const end = 2 ** 32 - (2 ** 32 % limit);
    for (;;) {
      const word = this.uint32();
      if (word < end) return word % limit;
    }
  }
}

/**
 * A random place for one item of a list: sorting by it shuffles, and taking the smallest samples. It is a function of the arguments
 * alone, so items that come, go or change elsewhere leave it as it is.
 *
 * @param seed an integer, 0 to 2^53 - 1
 * @param stream which list, 0 to 2^32 - 1
 * @param item which of its items, 0 to 2^32 - 1
 * @returns an integer, 0 to 2^53 - 1, each equally likely
 */
export function randomRank(seed: number, purpose: RandomPurpose, stream: number, item: number): number {
  const [high, low] = philox([item, stream, purpose, 0], keyOf(seed));
  return high * 2 ** 21 + (low >>> 11);
}

/** The numbers 0 to n - 1 in random order (Fisher and Yates). */
export function permutation(n: number, random: CounterRandom): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

function keyOf(seed: number): readonly [number, number] {
  return [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
}

type Words = readonly [number, number, number, number];

/** Ten rounds on 32-bit words. */
export function philox(counter: Words, key: readonly [number, number]): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The 64-bit product of two 32-bit words as [high, low], by 16-bit halves since doubles hold 53 bits. */
function multiply(a: number, b: number): readonly [number, number] {
  const [aHigh, aLow, bHigh, bLow] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const carry = aLow * bHigh + (middle % 0x10000);
  const high = aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000);
  return [high >>> 0, Math.imul(a, b) >>> 0];
}
