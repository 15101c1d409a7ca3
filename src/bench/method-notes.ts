/** How a run measured, a sentence each: what stands below its tables. */
import { peakProducts } from "./gemm-peak.js";

export interface RunFacts {
  readonly onGpu: boolean;
  readonly threads: number;
  /** Measured steps of each case; empty where none was timed. */
  readonly steps: readonly number[];
  /** Groups of cases that were alive together. */
  readonly groups: number;
  readonly peakSamples: number;
  readonly hasPeer: boolean;
}

export function methodNotes(facts: RunFacts): string[] {
  return [...(facts.steps.length === 0 ? [] : stepNotes(facts)), peakNote(facts), ...(facts.hasPeer ? [peerNote(facts)] : [])];
}

function stepNotes({ onGpu, threads, steps, groups }: RunFacts): string[] {
  const counts = [...new Set(steps)].join(" or ");
  const together =
    groups === 1
      ? "all models alive in one process, one step of each per round, every other round backwards"
      : `interleaved in one process in ${groups} groups, because not all models fit in memory at once: one step of each per round`;
  return [
    `Steps: ${counts} per case after 2 warm-up steps, ${together}; medians, ± is half the interquartile range. A step is forward, backward, clipping and AdamW on a new batch in which every token is labelled; ${threads} threads.`,
    "Work per token: FFT 6P, LoRA 4P + 6 x adapter parameters, and 12 x layers x hidden x mean attended length for attention; P leaves out the embedding's look-up and counts the LM head, for the rows that have a target. Recomputation is no work.",
    onGpu
      ? "Peak memory: the most that the back end of a process per case held on the GPU, without the driver's context."
      : "Peak memory: high-water mark (VmHWM) of a process per case that runs it alone, Node included.",
  ];
}

function peakNote({ onGpu, steps, peakSamples }: RunFacts): string {
  if (onGpu)
    return `GEMM peak: the fastest large bf16 product of this build on this GPU, median of ${peakSamples} samples taken before, between and after the rounds.`;
  const products = peakProducts.map(({ N, rows, cols }) => `${N} x ${rows} x ${cols}`).join(", ");
  const when = steps.length === 0 ? "before the kernels" : "before, between and after the rounds";
  return `GEMM peak: the fastest of ${peakProducts.length} large products (${products}) of this build on the same threads, median of ${peakSamples} samples taken ${when}.`;
}

function peerNote({ onGpu }: RunFacts): string {
  return onGpu
    ? "Peer: PyTorch runs before each group of ours, alone on the GPU but for our idle process, a process per case: eager, under torch.compile, and with Liger kernels where installed; CUDA events time its steps, and its memory is its allocator's maximum. mixed: fp32 weights, bf16 autocast; pure: everything in bf16."
    : "Peer: PyTorch takes its turns before, amid and after our rounds, a process per case, same shapes, tokens and threads. mixed: fp32 weights, bf16 autocast (our bf16 numerics); pure: everything in bf16.";
}
