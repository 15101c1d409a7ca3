import { readFile } from "node:fs/promises";
import { PolypacaError } from "../errors.js";

/**
 * Reads a JSON file that holds an object.
 *
 * @throws PolypacaError `NOT_FOUND`, `IO`, or `BAD_CHECKPOINT` with the parser's reason
 */
export async function readJsonObject(path: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new PolypacaError("BAD_CHECKPOINT", `${path}: not valid JSON (${(cause as Error).message}). Copy or download the file again.`, {
      cause,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new PolypacaError("BAD_CHECKPOINT", `${path}: expected a JSON object.`);
  }
  return value as Readonly<Record<string, unknown>>;
}
