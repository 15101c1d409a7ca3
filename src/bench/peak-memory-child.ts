/** The child process of peak-memory.ts: takes a case over the channel, runs it alone, sends back its high-water mark, of the host or of the GPU. */
import { PolypacaError } from "../errors.js";
import { loadAddon } from "../native/load.js";
import type { BenchCase } from "./cases.js";
import { LiveCase, warmupSteps } from "./live-case.js";

export type PeakMemoryReply = { readonly peakMemoryBytes: number } | { readonly code: string; readonly message: string };

async function peakOf(benchCase: BenchCase): Promise<PeakMemoryReply> {
  const live = await LiveCase.open(benchCase);
  for (let step = 0; step < warmupSteps; step++) await live.step();
  const { device } = benchCase;
  return { peakMemoryBytes: loadAddon().memoryUsage(device).peakResident };
}

process.once("message", async (benchCase: BenchCase) => {
  const reply = await peakOf(benchCase).catch((cause: unknown): PeakMemoryReply => {
    const { code, message } = PolypacaError.from(cause);
    return { code, message };
  });
  // The process ends here on purpose: what it holds need not be freed piece by piece.
  process.send?.(reply, () => process.exit(0));
});
