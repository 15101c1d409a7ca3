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
    `cuda       ${machine.cuda}`,
    `addon      ${addon?.path ?? ""} (${addon?.version ?? ""})`,
    `products   ${machine.gemm}, ${machine.threads} threads`,
    `back end   ${backend?.device ?? ""}, ${backend?.dtype ?? ""} (${backend?.why ?? ""})`,
  );
  return lines.join("\n");
}
