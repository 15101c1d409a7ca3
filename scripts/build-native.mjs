// Builds the native addon: with CMake (cmake-js) where there is one, else the portable CPU build with node-gyp.
// Runs as the package's install script and from setup.mjs. Node's own modules only: it must work before anything is installed.
//   node scripts/build-native.mjs [cmake|gyp|direct|clean]
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildDirect } from "./build-direct.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Runs a package's own command line with this Node. */
function run(script, args, cwd) {
  const result = spawnSync(process.execPath, [join(root, "node_modules", script), ...args], { cwd, stdio: "inherit" });
  if (result.error) throw result.error;
  if (result.status !== 0) {
    console.error(`polypaca: "${script} ${args.join(" ")}" ended with ${result.status ?? result.signal}`);
    process.exit(1);
  }
}

function has(command) {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

/**
 * POLYPACA_CUDA=ON|OFF|AUTO and POLYPACA_EMULATOR=ON|OFF, where they are set; CMake keeps what it was told last. Always configures, which
 * compile alone would not: libraries may have been installed since.
 */
function buildWithCMake() {
  const script = "cmake-js/bin/cmake-js";
  const out = ["--out", "build/cmake"];
  const options = ["POLYPACA_CUDA", "POLYPACA_EMULATOR"].flatMap((name) => (process.env[name] ? [`--CD${name}=${process.env[name]}`] : []));
  run(script, ["configure", ...out, ...options], root);
  run(script, ["compile", ...out, "--parallel", String(availableParallelism())], root);
}

/** node-gyp always writes to ./build: it runs in a folder of its own, so that the two builds never meet. */
function buildWithGyp() {
  const stage = join(root, "build/gyp-stage");
  mkdirSync(stage, { recursive: true });
  copyFileSync(join(root, "binding.gyp"), join(stage, "binding.gyp"));
  copyFileSync(join(root, "package.json"), join(stage, "package.json"));
  for (const name of ["native", "node_modules"]) {
    if (!existsSync(join(stage, name))) symlinkSync(join(root, name), join(stage, name), "dir");
  }
  // Headers that came with this Node, where they did; without them node-gyp downloads some.
  const nodedir = dirname(dirname(process.execPath));
  const local = existsSync(join(nodedir, "include/node/node_api.h")) ? ["--nodedir", nodedir] : [];
  const jobs = ["--jobs", String(availableParallelism())];
  run("node-gyp/bin/node-gyp.js", ["configure", ...local], stage);
  run("node-gyp/bin/node-gyp.js", ["build", ...local, ...jobs], stage);
  const out = join(root, "build/gyp/Release");
  mkdirSync(out, { recursive: true });
  copyFileSync(join(stage, "build/Release/polypaca.node"), join(out, "polypaca.node.new"));
  renameSync(join(out, "polypaca.node.new"), join(out, "polypaca.node")); // a running process keeps the old file
}

const wanted = process.argv[2] ?? (has("cmake") ? "cmake" : "gyp");
if (wanted === "cmake") buildWithCMake();
else if (wanted === "gyp") {
  if (!process.argv[2]) console.error("polypaca: no CMake found, building the portable CPU addon with node-gyp");
  buildWithGyp();
} else if (wanted === "direct") {
  await buildDirect(root).catch((error) => {
    console.error(`polypaca: ${error.message}`);
    process.exit(1);
  });
} else if (wanted === "clean") rmSync(join(root, "build"), { recursive: true, force: true });
else {
  console.error(`polypaca: unknown build "${wanted}": cmake, gyp, direct or clean`);
  process.exit(2);
}
