// What `npm test` leaves out because it takes long: lint, the node-gyp build with the golden tests on it, the other
// instruction sets, the C++ tests, and the tests under test/long (real signals, memory over many rounds, the offline
// bundle). Prints each stage's time.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const vitest = [join(root, "node_modules/vitest/vitest.mjs"), "run"];
const cmakeBuild = join(root, "build/cmake");
const gypAddon = join(root, "build/gyp/Release/polypaca.node");

/** What a C++ test returns that found nothing to test, after printing why. */
const skippedItself = 77;

function machine() {
  return createRequire(import.meta.url)(join(root, "build/cmake/Release/polypaca.node")).machine();
}

/** Why there is nothing to test with oneDNN, or undefined. */
function withoutOnednn() {
  return machine().onednn === "" ? "this build has no oneDNN" : undefined;
}

/** Why CUDA's kernels cannot be run here as C++, or undefined. */
function withoutEmulator() {
  return machine().cudaEmulator ? undefined : "this build has no emulator (POLYPACA_EMULATOR=ON npm run build)";
}

const stages = [
  ["lint", "npm", ["run", "lint"], {}],
  ["build through binding.gyp", process.execPath, [join(root, "scripts/build-native.mjs"), "gyp"], {}],
  ["goldens on the node-gyp build", process.execPath, [...vitest, "test/goldens.test.ts"], { POLYPACA_ADDON: gypAddon }],
  ["build of the C++ tests", "cmake", ["--build", cmakeBuild, "--config", "Release", "--target", "native_tests"], {}],
  ["attention against its formulas, every instruction set", join(cmakeBuild, "native-test/attention_test"), [], {}],
  ["cuBLASLt's interface against NVIDIA's header", join(cmakeBuild, "native-test/cublaslt_header_test"), [], {}],
  ["cuBLASLt's interface against the library", join(cmakeBuild, "native-test/cublaslt_abi_test"), [], {}],
  ["products and the choice of algorithms", join(cmakeBuild, "native-test/cublaslt_products_test"), [], {}, withoutEmulator],
  ["planted faults, each found by the emulator", join(cmakeBuild, "native-test/emulator_test"), [], {}, withoutEmulator],
  // Two seeds: another order of threads, and asynchronous copies that land early where they landed late.
  ...["1", "2"].map((seed) => [
    `ops on CUDA's kernels by emulation, seed ${seed}`,
    process.execPath,
    [...vitest, "test/ops"],
    { POLYPACA_TEST_DEVICE: "cuda-emulated", POLYPACA_EMULATOR_SEED: seed },
    withoutEmulator,
  ]),
  [
    "goldens on CUDA's kernels by emulation",
    process.execPath,
    [...vitest, "test/goldens-emulated.test.ts"],
    { POLYPACA_EMULATED_GOLDENS: "all" },
    withoutEmulator,
  ],
  ["goldens and ops with AVX2", process.execPath, [...vitest, "test/goldens.test.ts", "test/ops"], { POLYPACA_ISA: "avx2" }],
  [
    "goldens and ops without vector extensions",
    process.execPath,
    [...vitest, "test/goldens.test.ts", "test/ops"],
    { POLYPACA_ISA: "baseline" },
  ],
  [
    "goldens and ops with oneDNN's products",
    process.execPath,
    [...vitest, "test/goldens.test.ts", "test/ops"],
    { POLYPACA_GEMM: "onednn" },
    withoutOnednn,
  ],
  ["long tests", process.execPath, [...vitest, "--config", "vitest.long.config.ts"], {}],
];

let failed = 0;
let skipped = 0;
for (const [name, command, args, env, reasonToSkip] of stages) {
  const reason = reasonToSkip?.();
  if (reason) {
    skipped += 1;
    console.log(`== ${name}: skipped, ${reason}`);
    continue;
  }
  const start = Date.now();
  console.log(`== ${name}`);
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (result.status === skippedItself) {
    skipped += 1;
    console.log(`== ${name}: skipped`);
    continue;
  }
  const ok = result.status === 0;
  if (!ok) failed += 1;
  console.log(`== ${name}: ${ok ? "passed" : "FAILED"}, ${Math.round((Date.now() - start) / 1000)} s`);
}
console.log(`${stages.length - failed - skipped} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 ? 0 : 1);
