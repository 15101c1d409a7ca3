// The CPU addon with a C++ compiler alone: no CMake, no Python, no make. For machines that have nothing else, and for the offline
// bundle. Sources come from the lists that CMakeLists.txt and binding.gyp read. Node's own modules only.
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";

/** As CMakeLists.txt and binding.gyp have them. */
const flags = [
  ...["-std=c++20", "-O3", "-fopenmp", "-fvisibility=hidden", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"],
  ...["-Wall", "-Wextra", "-Wno-maybe-uninitialized"],
];
const instructionSets = { avx2: ["-march=x86-64-v3"], avx512: ["-march=x86-64-v4", "-mprefer-vector-width=512"] };

/** @returns every compilation: its source, its object file and its own flags */
export function compilations(root, arch = process.arch) {
  const require = createRequire(join(root, "package.json"));
  const { version } = require("./package.json");
  const list = (name) =>
    readFileSync(join(root, "native", name), "utf8")
      .split("\n")
      .filter(Boolean);
  const objectName = (source) =>
    source
      .replace(/^native\//, "")
      .replaceAll("/", "-")
      .replace(/\.cpp$/, ".o");
  const addonFlags = [
    ...["-DNAPI_VERSION=9", "-DNAPI_CPP_EXCEPTIONS", "-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", `-DPOLYPACA_VERSION="${version}"`],
    ...[require("node-addon-api").include_dir, require("node-api-headers").include_dir].flatMap((dir) => ["-isystem", dir]),
  ];
  const shared = list("sources-cpu.txt").map((source) => ({ source, object: objectName(source), flags: addonFlags }));
  const sets = { baseline: [], ...(arch === "x64" ? instructionSets : {}) };
  const kernels = Object.entries(sets).flatMap(([isa, isaFlags]) =>
    list("sources-cpu-isa.txt").map((source) => ({
      source,
      object: `${isa}-${objectName(source)}`,
      flags: [`-DPOLYPACA_ISA=${isa}`, ...isaFlags],
    })),
  );
  return [...shared, ...kernels];
}

function run(command, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: "inherit" });
    child.once("error", (cause) =>
      reject(new Error(`${command} cannot be started (${cause.message}). Install g++ 11 or newer, or name another compiler in CXX.`)),
    );
    child.once("close", (code) => (code === 0 ? resolve() : reject(new Error(`${command} ${args.join(" ")}: ended with ${code}`))));
  });
}

/** Builds build/direct/Release/polypaca.node, several files at a time. */
export async function buildDirect(root) {
  const compiler = process.env.CXX || "g++";
  const objects = join(root, "build/direct/objects");
  const out = join(root, "build/direct/Release");
  mkdirSync(objects, { recursive: true });
  mkdirSync(out, { recursive: true });
  const all = compilations(root);
  const waiting = [...all];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      await run(compiler, [...flags, ...next.flags, "-Inative", "-c", next.source, "-o", join(objects, next.object)], root);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  const linked = join(out, "polypaca.node.new");
  await run(compiler, ["-shared", "-fopenmp", "-pthread", ...all.map(({ object }) => join(objects, object)), "-o", linked], root);
  renameSync(linked, join(out, "polypaca.node")); // a running process keeps the old file
}
