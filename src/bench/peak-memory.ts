/** Peak memory of a case: the high-water mark (VmHWM; on a GPU, of its memory) of a process that runs nothing else. */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type ErrorCode, PolypacaError } from "../errors.js";
import type { BenchCase } from "./cases.js";
import type { PeakMemoryReply } from "./peak-memory-child.js";

const childModule = fileURLToPath(new URL("./peak-memory-child.js", import.meta.url));

/**
 * Runs the case's first steps in a process of its own; on the CPU, the Node process itself is in the figure, as Python is in the
 * peer's; on a GPU, what its back end holds on the device, as PyTorch's allocator reports the peer's.
 *
 * @throws PolypacaError whatever the child met; `INTERNAL` where it died, `CANCELLED`
 */
export async function measurePeakMemory(benchCase: BenchCase, signal?: AbortSignal): Promise<number> {
  if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while measuring peak memory");
  // stdout is the command's own; what a dying child may say belongs on stderr.
  const child = fork(childModule, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const kill = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", kill, { once: true });
  try {
    const reply = await new Promise<PeakMemoryReply>((resolve, reject) => {
      child.once("message", (message) => resolve(message as PeakMemoryReply));
      child.once("error", reject);
      child.once("exit", (code, name) => reject(diedError(benchCase, code, name, signal)));
      child.send(benchCase);
    });
    if ("peakMemoryBytes" in reply) return reply.peakMemoryBytes;
    throw new PolypacaError(reply.code as ErrorCode, `${benchCase.key}: ${reply.message}`);
  } finally {
    signal?.removeEventListener("abort", kill);
  }
}

function diedError({ key }: BenchCase, code: number | null, name: string | null, signal: AbortSignal | undefined): PolypacaError {
  if (signal?.aborted) return new PolypacaError("CANCELLED", "stopped while measuring peak memory");
  const how = name === null ? `with exit code ${code}` : `by ${name} (SIGKILL: mostly the kernel, for want of memory)`;
  return new PolypacaError("INTERNAL", `${key}: the process that measures its peak memory ended ${how}.`);
}
