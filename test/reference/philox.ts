/**
 * Philox4x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written with BigInt from the paper's description:
 * a round maps (R0, L0, R1, L1) to (hi(M1 R1) ^ L0 ^ k0, lo(M1 R1), hi(M0 R0) ^ L1 ^ k1, lo(M0 R0)); keys grow by Weyl constants.
 */
const multipliers = [0xd2511f53n, 0xcd9e8d57n] as const;
const weyl = [0x9e3779b9n, 0xbb67ae85n] as const;
const mask32 = 0xffffffffn;

export type Words4 = readonly [number, number, number, number];

export function philox4x32(rounds: number, counter: Words4, key: readonly [number, number]): Words4 {
  let [r0, l0, r1, l1] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < rounds; round++) {
    const product0 = multipliers[0] * r0;
    const product1 = multipliers[1] * r1;
    [r0, l0, r1, l1] = [(product1 >> 32n) ^ l0 ^ k0, product1 & mask32, (product0 >> 32n) ^ l1 ^ k1, product0 & mask32];
    k0 = (k0 + weyl[0]) & mask32;
    k1 = (k1 + weyl[1]) & mask32;
  }
  return [Number(r0), Number(l0), Number(r1), Number(l1)];
}

export interface DropoutSettings {
  readonly rate: number;
  readonly key: readonly [number, number];
  readonly site: number;
  /** [N] position of the token in its example. */
  readonly positions: ArrayLike<number>;
  /** [N] index of the example in the step's batch. */
  readonly examples: ArrayLike<number>;
}

/**
 * Factors [N, C] of an adapter input's dropout, as native/core/random.h defines them: feature c of token n is kept where
 * 16-bit draw c mod 8 of philox4x32-7 at counter (c div 8, position, example, site) reaches round(rate 65536).
 */
export function dropoutMask(N: number, C: number, { rate, key, site, positions, examples }: DropoutSettings): Float64Array {
  const threshold = Math.round(rate * 65536);
  const mask = new Float64Array(N * C);
  for (let n = 0; n < N; n++) {
    for (let block = 0; block * 8 < C; block++) {
      const words = philox4x32(7, [block, positions[n]!, examples[n]!, site], key);
      for (let c = block * 8; c < Math.min(block * 8 + 8, C); c++) {
        const draw = (words[Math.floor((c % 8) / 2)]! >>> (16 * (c % 2))) & 0xffff;
        mask[n * C + c] = draw >= threshold ? 1 / (1 - threshold / 65536) : 0;
      }
    }
  }
  return mask;
}
