import type { Command } from "commander";
import type { Diagnosis } from "../inspect/diagnose.js";
import { formatBytes, printResult } from "./output.js";

export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .description("Shows what this machine has, which back end is used and why. Exits with 1 where the native addon does not load.")
    .option("--json", "print the result as JSON")
    .action(async ({ json }: { readonly json?: true }) => {
      const { diagnose } = await import("../inspect/diagnose.js");
      const diagnosis = diagnose();
      printResult(json === true, diagnosis, () => describe(diagnosis));
      if (diagnosis.problem !== null) process.exitCode = 1;
    });
}

function describe({ node, system, cpu, memoryTotal, addon, machine, backend, problem }: Diagnosis): string {
  const lines = [`node       ${node}, ${system}`, `cpu        ${cpu.model}, ${cpu.logicalCores} logical cores`];
  if (machine === null) return [...lines, `memory     ${formatBytes(memoryTotal)}`, `addon      ${problem ?? ""}`].join("\n");
  const bf16 = machine.amxBf16 ? "AMX" : machine.bf16Dot ? "AVX512-BF16" : "none";
  lines.push(
    `vectors    ${machine.isa}; bf16 dot products: ${bf16}`,
    `memory     ${formatBytes(machine.memoryAvailable)} of ${formatBytes(memoryTotal)} available (limit: ${machine.memoryLimitedBy})`,
    `cuda       ${describeCuda(machine)}`,
    `addon      ${addon?.path ?? ""} (${addon?.version ?? ""})`,
    `products   ${machine.gemm} (${whyTheseProducts(machine)}), ${machine.threads} threads`,
    `fastText   ${machine.fastText ? "built in: --lid-model takes a model of any size" : withoutFastText}`,
    `back end   ${backend?.device ?? ""}, ${backend?.dtype ?? ""} (${backend?.why ?? ""})`,
  );
  return lines.join("\n");
}

const withoutFastText =
  "not in this build: --lid-model takes what WebAssembly holds. For larger models: apt-get install libfasttext-dev, then npm run build";

function describeCuda({ cuda, cudaDevices, cudaEmulator }: NonNullable<Diagnosis["machine"]>): string {
  const devices = cudaDevices.map(
    ({ index, name, computeCapability, memoryTotal }) =>
      `cuda:${index} ${name}, compute capability ${computeCapability}, ${formatBytes(memoryTotal)}`,
  );
  const emulator = cudaEmulator ? "; --device cuda-emulated is in this build" : "";
  return `${devices.length > 0 ? devices.join("; ") : cuda}${emulator}`;
}

function whyTheseProducts({ gemm, onednn, amxBf16 }: NonNullable<Diagnosis["machine"]>): string {
  if (process.env["POLYPACA_GEMM"]) return "POLYPACA_GEMM asks for it";
  if (gemm !== "portable") return "this CPU has AMX";
  if (onednn !== "") return `faster here than oneDNN ${onednn}, which is built in: POLYPACA_GEMM=onednn uses it`;
  return amxBf16
    ? "no oneDNN in this build, which has AMX kernels: apt-get install libdnnl-dev, then npm run build"
    : "no oneDNN in this build, none needed: it pays with AMX only";
}
