/** Chooses the micro-batch a run's memory allows, before anything is allocated. */
import { PolypacaError } from "../errors.js";
import type { MemoryPlan } from "../native/addon-types.js";

/** Beyond these a larger micro-batch brings no more speed. */
export const largestUseful = { cpu: 2048, cuda: 8192 } as const;
/** Default sizes are multiples of this. */
const granularity = 64;

export interface MicroBatchRequest {
  /** --micro-batch-tokens; null: choose. */
  readonly requested: number | null;
  /** No example is longer; the least that is chosen. */
  readonly cutoff: number;
  readonly device: string;
  readonly availableBytes: number;
  readonly allowOvercommit: boolean;
  /** What a run with this capacity needs; grows with it. */
  readonly planFor: (microBatchTokens: number) => MemoryPlan;
}

export interface MicroBatchChoice {
  readonly microBatchTokens: number;
  readonly plan: MemoryPlan;
}

/**
 * The requested capacity, or the largest that fits the available memory: at most 2,048 tokens on the CPU and 8,192 on CUDA, at
 * least `cutoff`.
 *
 * @throws PolypacaError `OUT_OF_MEMORY` with figures where it does not fit and `allowOvercommit` is false
 */
export function chooseMicroBatch(request: MicroBatchRequest): MicroBatchChoice {
  const { requested, planFor, allowOvercommit, availableBytes } = request;
  const microBatchTokens = requested ?? largestFitting(request);
  const plan = planFor(microBatchTokens);
  if (plan.total > availableBytes && !allowOvercommit) {
    throw new PolypacaError("OUT_OF_MEMORY", describeShortage(microBatchTokens, plan, request));
  }
  return { microBatchTokens, plan };
}

function largestFitting({ cutoff, device, availableBytes, planFor }: MicroBatchRequest): number {
  const fits = (tokens: number): boolean => planFor(tokens).total <= availableBytes;
  const ceiling = Math.max(cutoff, device.startsWith("cuda") ? largestUseful.cuda : largestUseful.cpu);
  if (fits(ceiling)) return ceiling;
  // Bisection over multiples of `granularity`: `low` is taken to fit, `high` does not.
  let low = Math.ceil(cutoff / granularity);
  let high = Math.ceil(ceiling / granularity);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle * granularity)) low = middle;
    else high = middle;
  }
  return fits(low * granularity) ? low * granularity : cutoff;
}

function describeShortage(tokens: number, plan: MemoryPlan, { cutoff, availableBytes }: MicroBatchRequest): string {
  const parts = (["weights", "gradients", "optimizer", "activations", "head", "scratch"] as const).map(
    (part) => `${part} ${mib(plan[part])}`,
  );
  const smaller = tokens > cutoff ? "a smaller --micro-batch-tokens, " : "";
  return (
    `a run with micro-batches of ${tokens} tokens needs ${mib(plan.total)} MiB (${parts.join(", ")}); ${mib(availableBytes)} MiB are available. ` +
    `Try ${smaller}--recompute block, --method lora or a smaller --cutoff; --allow-overcommit starts it all the same.`
  );
}

function mib(bytes: number): string {
  return Math.ceil(bytes / 2 ** 20).toLocaleString("en-US");
}
