/** What a fetched folder says of itself: from where, which commit, under which licence, and every file with its hash. */
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { PolypacaError } from "../errors.js";

export const fetchManifestName = "polypaca-fetch.json";

const manifestSchema = z.object({
  kind: z.enum(["model", "data"]),
  repository: z.string(),
  endpoint: z.string(),
  /** As it was asked for. */
  revision: z.string(),
  commit: z.string(),
  licence: z.string().nullable(),
  /** The patterns that were given. */
  selection: z.object({ files: z.array(z.string()), include: z.array(z.string()) }),
  files: z.array(
    z.object({
      path: z.string(),
      size: z.int().nonnegative(),
      hash: z.object({ algorithm: z.enum(["sha256", "git-sha1"]), hex: z.string() }),
    }),
  ),
});

export type FetchManifest = z.infer<typeof manifestSchema>;

/** The manifest of the folder; null where it has none. @throws PolypacaError `BAD_CONFIG` where it is not one of ours */
export async function readFetchManifest(folder: string): Promise<FetchManifest | null> {
  const path = join(folder, fetchManifestName);
  if (!existsSync(path)) return null;
  try {
    return manifestSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (cause) {
    throw new PolypacaError("BAD_CONFIG", `${path}: not the manifest of a fetched folder. Choose another --out, or remove the folder.`, {
      cause,
    });
  }
}

/** Files of the manifest that are not there, or not as long as they were. */
export async function damagedFiles(folder: string, { files }: FetchManifest): Promise<string[]> {
  const sizes = await Promise.all(
    files.map(({ path }) =>
      stat(join(folder, path)).then(
        ({ size }) => size,
        () => -1,
      ),
    ),
  );
  return files.filter(({ size }, i) => sizes[i] !== size).map(({ path }) => path);
}
