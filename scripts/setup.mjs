// Everything a fresh clone needs before a command can run: packages, the native addon, the compiled TypeScript.
// What is up to date is left alone. Node's own modules only.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(command, args) {
  console.error(`polypaca: ${[command, ...args].join(" ")}`);
  // npm's chatter goes to stderr: the command that follows may print JSON.
  const result = spawnSync(command, args, { cwd: root, stdio: ["inherit", 2, 2] });
  if (result.error) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

/** When the newest file under a path changed, in milliseconds; 0 where there is none. */
function newest(path) {
  if (!existsSync(path)) return 0;
  const info = statSync(path);
  if (!info.isDirectory()) return info.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

const at = (...parts) => join(root, ...parts);
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(`polypaca needs Node 20.17 or newer, this is ${process.versions.node}`);
  process.exit(1);
}

// npm writes this file last when it has installed what the lock file asks for.
if (newest(at("node_modules/.package-lock.json")) < newest(at("package-lock.json")))
  run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);

const addon = Math.max(newest(at("build/cmake/Release/polypaca.node")), newest(at("build/gyp/Release/polypaca.node")));
if (!process.env.POLYPACA_ADDON && addon < Math.max(newest(at("native")), newest(at("CMakeLists.txt")), newest(at("binding.gyp")))) {
  run(process.execPath, [at("scripts/build-native.mjs")]);
}
if (newest(at("dist/cli/main.js")) < Math.max(newest(at("src")), newest(at("tsconfig.json")))) {
  run(process.execPath, [at("node_modules/typescript/bin/tsc"), "-p", "tsconfig.json"]);
}
