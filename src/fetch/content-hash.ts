/** The hashes by which the hub knows its files: their content is checked against these. */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { PolypacaError } from "../errors.js";

/** `sha256` of the content (files in LFS and Xet), `git-sha1` of git's blob (small files). */
export interface ContentHash {
  readonly algorithm: "sha256" | "git-sha1";
  readonly hex: string;
}

/** To be updated with the content. Git hashes a header that says the size before it. */
export function openHash({ algorithm }: ContentHash, size: number): Hash {
  return algorithm === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${size}\0`);
}

/** Whether a file on disk has this content. @throws PolypacaError `IO` */
export async function hasContent(path: string, hash: ContentHash, size: number): Promise<boolean> {
  const found = openHash(hash, size);
  let bytes = 0;
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
      bytes += (chunk as Buffer).length;
      found.update(chunk as Buffer);
    }
  } catch (cause) {
    throw PolypacaError.from(cause);
  }
  return bytes === size && found.digest("hex") === hash.hex;
}
