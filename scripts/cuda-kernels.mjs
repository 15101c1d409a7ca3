// Builds the addon with its CUDA back end where nvcc is, GPU or not, and says what became of the kernels:
//   node scripts/cuda-kernels.mjs          builds in build/cuda: no warning, no spill, and the addon must load here and say what it lacks
//   node scripts/cuda-kernels.mjs table    the same, and writes docs/cuda-kernels.md: registers, occupancy, instructions; with --built
//                                          of the build that is there
// The table wants a build with the emulator for the launches (npm run build), and cuobjdump for the instructions: in the PATH, in
// CUDA_HOME, or named by POLYPACA_CUOBJDUMP. Node's own modules only.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const build = join(root, "build/cuda");
const architectures = ["sm_80", "sm_90a"];

/** CUDA C++ Programming Guide, "Compute Capabilities" 8.0 and 9.0: of one multiprocessor. */
const limits = { sm_80: { sharedBytes: 164 * 1024 }, sm_90a: { sharedBytes: 228 * 1024 } };
const registersPerProcessor = 65536;
const [warpsPerProcessor, blocksPerProcessor] = [64, 32];
/** The driver's own share of a block's shared memory, and the grains in which memory and registers are given out. */
const [reservedBytes, sharedGrain, registerGrain, warpGrain] = [1024, 128, 256, 4];

function fail(message) {
  console.error(`cuda-kernels: ${message}`);
  process.exit(1);
}

function output(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 30, ...options });
  if (result.error) fail(`${command} cannot be started: ${result.error.message}`);
  return result;
}

/** @returns everything that the build printed, which is also shown as it comes */
function buildWithCuda() {
  rmSync(build, { recursive: true, force: true }); // ptxas speaks only of what it compiles
  const script = [
    `node_modules/.bin/cmake-js configure --out build/cuda --CDPOLYPACA_CUDA=ON --CDPOLYPACA_EMULATOR=OFF`,
    `node_modules/.bin/cmake-js compile --out build/cuda --parallel ${Math.max(2, Number(process.env.POLYPACA_JOBS ?? 2))}`,
  ].join(" && ");
  const child = spawn("sh", ["-c", `{ ${script}; } 2>&1`], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, CUDAFLAGS: `${process.env.CUDAFLAGS ?? ""} -Xptxas=-v` },
  });
  let log = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    log += text;
    for (const line of text.split("\n")) if (/^\[\d+\/\d+\]|error|warning/i.test(line)) console.log(line);
  });
  return new Promise((resolve) => {
    child.once("close", (code) => (code === 0 ? resolve(log) : fail(`the build ended with ${code}:\n${log.slice(-4000)}`)));
  });
}

/** `void polypaca::cuda::(anonymous namespace)::norm<bf16, 4>(...)` and the emulator's form of it as `norm<bf16, 4>`. */
function shortName(demangled) {
  const name = demangled.replace(/polypaca::|cuda_emulated::|cuda::|\(anonymous namespace\)::/g, "").replace(/^void /, "");
  let depth = 0;
  for (let i = 0; i < name.length; i++) {
    if (name[i] === "<") depth++;
    if (name[i] === ">") depth--;
    if (name[i] === "(" && depth === 0) return name.slice(0, i);
  }
  return name;
}

function demangle(symbols) {
  const lines = output("c++filt", [], { input: symbols.join("\n") }).stdout.split("\n");
  return new Map(symbols.map((symbol, i) => [symbol, shortName(lines[i])]));
}

/** What `ptxas -v` says of each kernel on each architecture. */
function readPtxas(log) {
  const found = [];
  let file = "";
  let entry = null;
  for (const line of log.split("\n")) {
    file = /Building CUDA object \S*native\/cuda\/(\w+\.cu)/.exec(line)?.[1] ?? file;
    const start = /Compiling entry function '(\S+)' for '(\w+)'/.exec(line);
    if (start) {
      entry = { file, symbol: start[1], architecture: start[2] };
      found.push(entry);
    }
    const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (spills && entry) entry.spills = Number(spills[1]) + Number(spills[2]);
    const registers = /Used (\d+) registers/.exec(line);
    if (registers && entry) entry.registers = Number(registers[1]);
  }
  const names = demangle([...new Set(found.map(({ symbol }) => symbol))]);
  const kernels = new Map();
  for (const { file, symbol, architecture, registers, spills } of found) {
    const kernel = kernels.get(symbol) ?? { file, symbol, name: names.get(symbol), on: {} };
    kernel.on[architecture] = { registers, spills };
    kernels.set(symbol, kernel);
  }
  return [...kernels.values()].sort((a, b) => a.file.localeCompare(b.file) || a.name.localeCompare(b.name, "en", { numeric: true }));
}

/** Threads and shared memory of every launch that the tests make, as the emulator records them. */
function recordLaunches() {
  const file = join(mkdtempSync(join(tmpdir(), "polypaca-launches-")), "launches");
  const env = { ...process.env, POLYPACA_TEST_DEVICE: "cuda-emulated", POLYPACA_EMULATED_GOLDENS: "all", POLYPACA_EMULATOR_LAUNCHES: file };
  const vitest = [join(root, "node_modules/vitest/vitest.mjs"), "run", "test/ops", "test/goldens-emulated.test.ts"];
  const { status } = spawnSync(process.execPath, vitest, { cwd: root, env, stdio: ["ignore", 2, 2] });
  if (status !== 0 || !existsSync(file))
    fail("the emulated tests failed, or this build has no emulator (POLYPACA_EMULATOR=ON npm run build)");
  const launches = new Map();
  for (const line of new Set(readFileSync(file, "utf8").split("\n").filter(Boolean))) {
    const [threads, shared, name] = line.split("\t");
    const short = shortName(name);
    launches.set(short, [...(launches.get(short) ?? []), { threads: Number(threads), shared: Number(shared) }]);
  }
  // The launch that asks for most stands for a kernel: the others leave more room.
  return new Map([...launches].map(([name, all]) => [name, all.sort((a, b) => b.shared - a.shared || b.threads - a.threads)[0]]));
}

const up = (value, grain) => Math.ceil(value / grain) * grain;

/** Blocks that one multiprocessor holds, and the share of its warps that they are. */
function occupancy(architecture, registers, { threads, shared }) {
  const warps = Math.ceil(threads / 32);
  const warpsByRegisters = Math.floor(registersPerProcessor / up(registers * 32, registerGrain) / warpGrain) * warpGrain;
  const byRegisters = Math.floor(warpsByRegisters / warps);
  const byShared = Math.floor(limits[architecture].sharedBytes / up(shared + reservedBytes, sharedGrain));
  const blocks = Math.min(byRegisters, byShared, blocksPerProcessor, Math.floor(warpsPerProcessor / warps));
  return { blocks, share: (blocks * warps) / warpsPerProcessor };
}

function findCuobjdump() {
  const named = process.env.POLYPACA_CUOBJDUMP;
  const candidates = named ? [named] : ["cuobjdump", join(process.env.CUDA_HOME ?? "/usr/local/cuda", "bin/cuobjdump")];
  return candidates.find((path) => spawnSync(path, ["--version"], { stdio: "ignore" }).status === 0);
}

const instructions = {
  tensorCore: /\bHG?MMA\b/,
  load16: /\b(LDG|LDGSTS|LD)\.\S*128/,
  store16: /\b(STG|ST)\.\S*128/,
  ldmatrix: /\bLDSM\b/,
};

/** By kernel: how many of these instructions its sm_90a code has. */
function countInstructions(cuobjdump) {
  const objects = join(build, "CMakeFiles/polypaca_cuda.dir/native/cuda");
  const counts = new Map();
  for (const name of readdirSync(objects).filter((each) => each.endsWith(".cu.o"))) {
    let current = null;
    for (const line of output(cuobjdump, ["-sass", "-arch", "sm_90a", join(objects, name)]).stdout.split("\n")) {
      const symbol = /Function : (\S+)/.exec(line)?.[1];
      if (symbol) {
        current = { tensorCore: 0, load16: 0, store16: 0, ldmatrix: 0 };
        counts.set(symbol, current);
      } else if (current) for (const [kind, pattern] of Object.entries(instructions)) if (pattern.test(line)) current[kind]++;
    }
  }
  return counts;
}

function checkAddon() {
  const addon = join(build, "Release/polypaca.node");
  const { stdout, stderr, status } = output(process.execPath, [join(root, "dist/cli/main.js"), "doctor", "--json"], {
    env: { ...process.env, POLYPACA_ADDON: addon },
  });
  if (status !== 0) fail(`doctor ended with ${status} on the built addon: ${stdout}${stderr}`);
  const { machine, backend } = JSON.parse(stdout);
  console.log(`doctor: cuda "${machine.cuda}"; back end ${backend.device} (${backend.why})`);
  if (machine.cuda === "not built") fail("the addon says that CUDA is not built");
  if (machine.cudaDevices.length === 0 && backend.device !== "cpu") fail("there is no GPU, and the back end is not the CPU");
}

function row(cells) {
  return `| ${cells.join(" | ")} |`;
}

function table(kernels, launches, counts, nvcc) {
  const lines = [
    "# CUDA's kernels: registers, occupancy, instructions",
    "",
    `Written by \`node scripts/cuda-kernels.mjs table\` with nvcc ${nvcc}. Nothing here has been measured on a GPU: registers and spills are`,
    "what `ptxas -v` reports, threads and shared memory those of the largest launch that the tests make through the emulator (where they",
    "make none, -), and occupancy follows from both and the limits of compute capability 8.0 and 9.0: blocks that a multiprocessor holds",
    "and the share of its 64 warps. Instructions are counted in the sm_90a code: tensor-core products, loads and stores of 16 bytes from and to",
    "global memory (asynchronous copies included), `ldmatrix`; they say that a kernel has them, not how often they run.",
    "",
  ];
  const spilled = kernels.filter(({ on }) => architectures.some((each) => on[each]?.spills > 0));
  lines.push(spilled.length === 0 ? "No kernel spills." : `Spills: ${spilled.map(({ name }) => name).join(", ")}.`, "");
  for (const file of new Set(kernels.map((kernel) => kernel.file))) {
    lines.push(
      `## ${file}`,
      "",
      row([
        "kernel",
        "threads",
        "shared B",
        "sm_80: registers",
        "blocks, warps",
        "sm_90a: registers",
        "blocks, warps",
        "mma",
        "16 B loads",
        "16 B stores",
        "ldmatrix",
      ]),
    );
    lines.push(row(["---", ...new Array(10).fill("---:")]));
    for (const { name, symbol, on } of kernels.filter((kernel) => kernel.file === file)) {
      const launch = launches.get(name);
      const onArchitecture = architectures.flatMap((each) => {
        const { registers } = on[each];
        if (!launch) return [registers, "-"];
        const { blocks, share } = occupancy(each, registers, launch);
        return [registers, `${blocks}, ${Math.round(share * 100)}%`];
      });
      const count = counts?.get(symbol);
      const seen = ["tensorCore", "load16", "store16", "ldmatrix"].map((kind) => count?.[kind] ?? "?");
      lines.push(row([`\`${name}\``, launch?.threads ?? "-", launch?.shared ?? "-", ...onArchitecture, ...seen]));
    }
    lines.push("");
  }
  return lines.join("\n");
}

const nvcc = /release ([\d.]+)/.exec(spawnSync("nvcc", ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1];
if (!nvcc) {
  console.log("cuda-kernels: no nvcc in the PATH, nothing to build");
  process.exit(77);
}
const started = performance.now();
const logFile = join(build, "build.log");
const log = process.argv.includes("--built") ? readFileSync(logFile, "utf8") : await buildWithCuda();
writeFileSync(logFile, log);
console.log(`built with nvcc ${nvcc} in ${Math.round((performance.now() - started) / 1000)} s`);
const warnings = log.split("\n").filter((line) => /\bwarning\b/i.test(line));
if (warnings.length > 0) fail(`${warnings.length} warnings:\n${warnings.join("\n")}`);
const kernels = readPtxas(log);
if (kernels.length === 0) fail("ptxas reported no kernel");
const spilling = kernels.filter(({ on }) => architectures.some((each) => on[each]?.spills !== 0));
if (spilling.length > 0) fail(`spills in ${spilling.map(({ name }) => name).join(", ")}`);
console.log(`${kernels.length} kernels for ${architectures.join(" and ")}, no spills`);
checkAddon();
if (process.argv[2] === "table") {
  const cuobjdump = findCuobjdump();
  if (!cuobjdump) console.log("no cuobjdump: instructions are not counted");
  const text = table(kernels, recordLaunches(), cuobjdump && countInstructions(cuobjdump), nvcc);
  writeFileSync(join(root, "docs/cuda-kernels.md"), `${text.trimEnd()}\n`);
  console.log("written: docs/cuda-kernels.md");
}
