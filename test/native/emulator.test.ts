/** The emulator that CUDA's kernels are proven with must itself find what is wrong with a kernel. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadAddon, packageRoot } from "../../src/native/load.js";

const program = join(packageRoot(), "build/cmake/native-test/emulator_test");
const absent = existsSync(program) ? "" : " (skipped: this build has no emulator)";

describe.skipIf(absent !== "")(`emulator${absent}`, () => {
  it.each([1, 2])("seed %i finds every planted fault and passes the correct kernels", (seed) => {
    const { status, stdout } = spawnSync(program, [String(seed)], { encoding: "utf8" });
    expect(stdout).toMatch(/^emulator: \d+ runs, 0 failed\n$/);
    expect(status).toBe(0);
  });

  it("is in the addon as device cuda-emulated", () => {
    expect(loadAddon().machine().cudaEmulator).toBe(true);
  });
});
