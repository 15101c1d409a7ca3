/** Which of the project's files the offline bundle holds. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";

/** Our own, from the package's root. src and test are there for the kernel tests, which vitest runs as they are written. */
const ownFolders = ["bench/peers", "dist", "experiments", "native", "scripts", "src", "test"];
const ownFiles = [
  ...["CMakeLists.txt", "LICENSE", "README.md", "binding.gyp", "package-lock.json", "package.json", "tsconfig.json", "vitest.config.ts"],
  ...["docs/gpu.md", "docs/gpu-log.md"],
];

/** Of the bundle's top, from scripts/offline. */
export const topScripts = ["install.sh", "gpu-check.sh"];

/** What never goes in: earlier bundles, the long tests (they make bundles), what a run left behind, maps and types that nothing there reads. */
export function isPacked(path: string): boolean {
  if (/(^|\/)(__pycache__|\.cache|\.git)(\/|$)/.test(path) || /\.(log|map)$/.test(path)) return false;
  if (path.startsWith("test/long/") || /^dist\/(polypaca-offline|\.tmp-)/.test(path)) return false;
  if (path.startsWith("node_modules/")) return !/\.d\.[cm]?ts$/.test(path);
  return true;
}

/**
 * Every file to pack, by its path from `root`, sorted.
 *
 * @param packages folders below node_modules
 * @throws PolypacaError `NOT_FOUND` where something that belongs in is not there
 */
export function filesToPack(root: string, packages: readonly string[]): string[] {
  const missing = [...ownFolders, ...ownFiles, ...packages].filter((path) => !existsSync(join(root, path)));
  if (missing.length > 0) throw new PolypacaError("NOT_FOUND", `${root}: ${missing.join(", ")} must be there to make the bundle.`);
  const own = ownFolders.flatMap((folder) => filesBelow(root, folder, () => true));
  // A package below a package is packed for itself, where it is wanted.
  const foreign = packages.flatMap((folder) => filesBelow(root, folder, (name) => name !== "node_modules"));
  return [...own, ...ownFiles, ...foreign].filter(isPacked).sort();
}

function filesBelow(root: string, folder: string, enters: (name: string) => boolean): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return enters(entry.name) ? filesBelow(root, path, enters) : [];
    return entry.isFile() ? [path] : [];
  });
}
