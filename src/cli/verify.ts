import type { Command } from "commander";
import type { CaseReport } from "../verify/verify-case.js";
import { choiceFlag, deviceNames, note, printResult } from "./output.js";

export function registerVerify(program: Command): void {
  program
    .command("verify")
    .description("Checks this build and back end against folders of reference values. Exits with 1 where a case fails.")
    .argument("<CASE_DIR...>", "reference cases or their variants")
    .option("--dtype <TYPE>", "fp32 or bf16 (default: fp32 on the CPU, bf16 on CUDA)", choiceFlag("--dtype", ["fp32", "bf16"]))
    .option("--device <NAME>", deviceNames, "auto")
    .option("--json", "print the result as JSON")
    .action(async (folders: readonly string[], { dtype, device, json }: VerifyFlags) => {
      const [{ verifyCase }, { loadAddon }, { resolveDevice, resolveDType }] = await Promise.all([
        import("../verify/verify-case.js"),
        import("../native/load.js"),
        import("../native/model.js"),
      ]);
      const addon = loadAddon();
      const chosen = resolveDevice(addon, device, dtype);
      const computeDType = resolveDType(addon, dtype ?? (chosen === "cpu" ? "fp32" : undefined), chosen);
      const cases: CaseReport[] = [];
      for (const folder of folders) {
        const report = await verifyCase(addon, folder, { device: chosen, dtype: computeDType });
        note(describe(report));
        cases.push(report);
      }
      const passed = cases.filter((report) => report.passed).length;
      const failed = cases.length - passed;
      printResult(json === true, { cases, passed, failed }, () => `${passed} passed, ${failed} failed`);
      if (failed > 0) process.exitCode = 1;
    });
}

interface VerifyFlags {
  readonly dtype?: "fp32" | "bf16";
  readonly device: string;
  readonly json?: true;
}

function describe({ case: name, passed, maxRelativeError, failures, notes }: CaseReport): string {
  const errors = Object.entries(maxRelativeError).flatMap(([what, error]) => (error === null ? [] : [`${what} ${error.toExponential(1)}`]));
  const details = [...failures, ...notes.map((line) => `note: ${line}`)];
  return [`${passed ? "passed" : "FAILED"}  ${name}  (${errors.join(", ")})`, ...details.map((line) => `        ${line}`)].join("\n");
}
