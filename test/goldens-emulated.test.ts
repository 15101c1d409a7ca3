/**
 * The reference cases on CUDA's kernels, run as C++ by the emulator in bf16: every kernel, cuBLASLt's products replaced by plain loops,
 * each optimiser step through recorded work. A few cases here; all with POLYPACA_EMULATED_GOLDENS=all (npm run test:emulated).
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadAddon } from "../src/native/load.js";
import { verifyCase } from "../src/verify/verify-case.js";
import { goldens } from "./checkpoint/crafted-files.js";

const few = ["01-bloom-h4", "06-llama-gqa"];
const all = [
  ...readdirSync(goldens).filter((name) => /^\d/.test(name)),
  ...readdirSync(join(goldens, "variants")).map((name) => `variants/${name}`),
];
const cases = process.env["POLYPACA_EMULATED_GOLDENS"] === "all" ? all : few;

describe.skipIf(!loadAddon().machine().cudaEmulator)("on CUDA's kernels by emulation (skipped where the build has no emulator)", () => {
  it.each(cases)("%s agrees within what bf16 costs PyTorch", { timeout: 1_200_000 }, async (name) => {
    const { failures, passed } = await verifyCase(loadAddon(), join(goldens, name), { device: "cuda-emulated", dtype: "bf16" });
    expect(failures).toEqual([]);
    expect(passed).toBe(true);
  });
});
