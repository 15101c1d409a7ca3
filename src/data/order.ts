import { CounterRandom, permutation, randomPurpose } from "./philox.js";

/**
 * The order in which an epoch takes its `n` examples: a function of (n, seed, epoch) alone, whatever the number of workers or
 * restarts.
 *
 * @param epoch from 0
 * @returns [n] indices, each once
 */
export function epochOrder(n: number, seed: number, epoch: number): Int32Array {
  return permutation(n, new CounterRandom(seed, randomPurpose.epochOrder, epoch));
}
