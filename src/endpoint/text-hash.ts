import { createHash } from "node:crypto";

/**
 * The first 128 bits of a text's SHA-256, base64url (22 characters): its name in the journal. Among 10^9 texts the chance that any two
 * share it is 10^-21.
 */
export function textHash(text: string): string {
  return createHash("sha256").update(text).digest("base64url").slice(0, 22);
}
