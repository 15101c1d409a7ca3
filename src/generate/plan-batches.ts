/**
 * Batches of prompts of like length, planned from the input alone: the same files give the same batches whether a run was
 * interrupted or not, and so the same results.
 *
 * @param lengths tokens per prompt
 * @returns indices of prompts, longest batch first, so that memory is needed most at the start
 */
export function planBatches(lengths: readonly number[], batchSize: number): number[][] {
  const order = lengths.map((_, index) => index).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
  const batches: number[][] = [];
  for (let start = 0; start < order.length; start += batchSize) batches.push(order.slice(start, start + batchSize));
  return batches;
}
