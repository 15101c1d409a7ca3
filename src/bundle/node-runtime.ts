/** The Node that runs this, as a part of the bundle: one file that starts on another machine, and its licence. */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { Notice } from "./licences.js";

/** What every Linux system with a C++ compiler has. */
const systemLibrary = /^(linux-vdso|ld-linux.*|libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|libatomic)\.so/;

/**
 * Copies the running Node to `target`, without symbols for a debugger where `strip` is there.
 *
 * @throws PolypacaError `UNSUPPORTED` for a Node that needs libraries of its own beside it
 */
export function copyNode(target: string): void {
  const foreign = librariesOf(process.execPath).filter((name) => !systemLibrary.test(name));
  if (foreign.length > 0) {
    throw new PolypacaError(
      "UNSUPPORTED",
      `${process.execPath} needs ${foreign.join(", ")}, which another machine may not have. Run this with Node from nodejs.org.`,
    );
  }
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(process.execPath, target);
  chmodSync(target, 0o755);
  spawnSync("strip", [target], { stdio: "ignore" });
  const { status, stdout } = spawnSync(target, ["--version"], { encoding: "utf8" });
  if (status !== 0 || stdout.trim() !== process.version) throw new PolypacaError("INTERNAL", `${target}: the copied Node does not start.`);
}

/** Shared libraries by name ("libc.so.6"), those they need included. */
function librariesOf(file: string): string[] {
  const { status, stdout } = spawnSync("ldd", [file], { encoding: "utf8" });
  if (status !== 0)
    throw new PolypacaError("UNSUPPORTED", `${file}: ldd does not say which libraries it needs. The bundle is made on Linux.`);
  return stdout.split("\n").flatMap((line) => {
    const name = line.trim().split(/\s/)[0] ?? "";
    return name === "" ? [] : [name.split("/").at(-1)!];
  });
}

/** @throws PolypacaError `NOT_FOUND` where this installation of Node has no licence file */
export function noticeOfNode(): Notice {
  const prefix = dirname(dirname(process.execPath));
  const places = ["LICENSE", "share/doc/nodejs/LICENSE", "share/doc/nodejs/copyright", "share/doc/node/LICENSE"];
  const file = [process.env.POLYPACA_NODE_LICENSE ?? "", ...places.map((place) => join(prefix, place))].find((path) => existsSync(path));
  if (file === undefined) {
    throw new PolypacaError(
      "NOT_FOUND",
      `no licence of Node beside ${process.execPath} (looked for ${places.join(", ")} in ${prefix}). Set POLYPACA_NODE_LICENSE to the LICENSE file of Node ${process.version}.`,
    );
  }
  const licence = "MIT, and the licences of what it contains";
  return { title: `Node.js ${process.version}`, licence, texts: [{ file: "LICENSE", text: readFileSync(file, "utf8").trim() }] };
}
