import { readFile } from "node:fs/promises";
import { z } from "zod";
import { PolypacaError } from "../errors.js";

/**
 * Reads what `bench --save` wrote, as far as the schema goes.
 *
 * @param flag that named the file, for messages
 * @throws PolypacaError `NOT_FOUND`, `IO`, `BAD_DATA` where the file is not what `--save` writes
 */
export async function readSavedFile<T>(schema: z.ZodType<T>, path: string, flag: string): Promise<T> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const { code, message } = PolypacaError.from(cause);
    throw new PolypacaError(code, `${flag} ${path}: ${message}. Make it with polypaca bench --save ${path}.`, { cause });
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    const detail =
      cause instanceof z.ZodError ? cause.issues.map(({ path: at, message }) => `${at.join(".")}: ${message}`)[0] : String(cause);
    throw new PolypacaError("BAD_DATA", `${flag} ${path}: not a file that polypaca bench --save wrote (${detail}).`, { cause });
  }
}
