import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { PolypacaError } from "../errors.js";
import type { Addon } from "./addon-types.js";

const require = createRequire(import.meta.url);

/** The package's root: the nearest folder above this file that has a package.json. */
export function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, "package.json"))) {
    const parent = dirname(dir);
    if (parent === dir) throw new PolypacaError("ADDON", "polypaca's package.json was not found above its own code");
    dir = parent;
  }
  return dir;
}

/** Where the addon may be, best first: POLYPACA_ADDON alone where it is set, else the builds of CMake, of node-gyp, of a bare compiler. */
export function addonCandidates(): string[] {
  const override = process.env.POLYPACA_ADDON;
  if (override) return [resolve(override)];
  return ["cmake", "gyp", "direct"].map((build) => join(packageRoot(), "build", build, "Release/polypaca.node"));
}

/** The offline bundle has no npm. */
function howToBuild(): string {
  const installer = join(packageRoot(), "install.sh");
  return existsSync(installer) ? `Run ${installer}.` : `Run "npm run build" in ${packageRoot()}.`;
}

let loaded: { readonly addon: Addon; readonly path: string } | undefined;

/**
 * Finds and loads the native addon, once per thread.
 *
 * @throws PolypacaError `ADDON` that says where it was looked for and how to build it
 */
export function loadAddon(): Addon {
  return loadAddonWithPath().addon;
}

/** The same, with the file it came from (for `doctor`). */
export function loadAddonWithPath(): { readonly addon: Addon; readonly path: string } {
  if (loaded) return loaded;
  const candidates = addonCandidates();
  const path = candidates.find((candidate) => existsSync(candidate));
  if (!path) {
    throw new PolypacaError("ADDON", `The native addon is not built: looked for ${candidates.join(", ")}. ${howToBuild()}`);
  }
  try {
    loaded = { addon: require(path) as Addon, path };
  } catch (cause) {
    throw new PolypacaError("ADDON", `${path} does not load: ${cause instanceof Error ? cause.message : String(cause)}. ${howToBuild()}`, {
      cause,
    });
  }
  return loaded;
}
