import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { PolypacaError } from "../errors.js";

/**
 * Refuses an output folder that holds something, before the work that would end there.
 *
 * @throws PolypacaError `USAGE`
 */
export async function assertFreeFolder(dir: string): Promise<void> {
  if (!existsSync(dir)) return;
  if (!(await stat(dir)).isDirectory()) throw new PolypacaError("USAGE", `--out ${dir}: is a file. Choose a folder.`);
  const [name] = await readdir(dir);
  if (name === undefined) return;
  throw new PolypacaError("USAGE", `--out ${dir}: is not empty (it holds ${name}). Choose another folder, or remove it first.`);
}
