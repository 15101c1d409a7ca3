/** Which npm packages the offline bundle takes along: what runs, from the lock file, and what is installed of it. */
import { z } from "zod";
import { PolypacaError } from "../errors.js";

const names = z.record(z.string(), z.string()).default({});

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      dependencies: names,
      optionalDependencies: names,
      peerDependencies: names,
      peerDependenciesMeta: z.record(z.string(), z.object({ optional: z.boolean().optional() })).default({}),
    }),
  ),
});

export type LockFile = z.infer<typeof lockSchema>;

/** @throws PolypacaError `BAD_DATA` where it is no package-lock.json of version 2 or 3 */
export function parseLockFile(text: string): LockFile {
  try {
    return lockSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new PolypacaError("BAD_DATA", "package-lock.json: not a lock file of version 2 or 3. Run npm install again.", { cause });
  }
}

/** Packages of types alone have nothing to run. */
const hasNoCode = (name: string): boolean => name.startsWith("@types/");

/**
 * Everything that `roots` need to run, as folders ("node_modules/…"), sorted. Optional packages that are not installed, which are
 * those of other platforms, are left out.
 *
 * @throws PolypacaError `NOT_FOUND` for a needed one that is not installed
 */
export function packagesToPack({ packages }: LockFile, roots: readonly string[], isInstalled: (folder: string) => boolean): string[] {
  const chosen = new Set<string>();
  const visit = (from: string, name: string, isOptional: boolean): void => {
    if (hasNoCode(name)) return;
    const folder = placesOf(from, name).find((place) => packages[place] !== undefined && isInstalled(place));
    if (folder === undefined) {
      if (isOptional) return;
      throw new PolypacaError("NOT_FOUND", `${name}, which ${from || "polypaca"} needs, is not installed. Run npm ci.`);
    }
    if (chosen.has(folder)) return;
    chosen.add(folder);
    const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = packages[folder]!;
    for (const next of Object.keys(dependencies)) visit(folder, next, next in optionalDependencies);
    for (const next of Object.keys(optionalDependencies)) visit(folder, next, true);
    for (const next of Object.keys(peerDependencies)) if (peerDependenciesMeta[next]?.optional !== true) visit(folder, next, false);
  };
  for (const root of roots) visit("", root, false);
  return [...chosen].sort();
}

/** Where Node looks for `name` when code in `from` asks for it, nearest first. */
function placesOf(from: string, name: string): string[] {
  const parts = from === "" ? [] : from.split("/node_modules/");
  const above = parts.map((_, i) => parts.slice(0, parts.length - i).join("/node_modules/"));
  return [...above.map((folder) => `${folder}/node_modules/${name}`), `node_modules/${name}`];
}
