import { createHash, timingSafeEqual } from "node:crypto";

/**
 * Whether an Authorization header carries the key ("Bearer <key>"). Hashes are compared, in a time that says nothing about the key or
 * its length.
 */
export function hasKey(authorization: string | undefined, key: string): boolean {
  const given = /^Bearer +(.+)$/i.exec(authorization ?? "")?.[1]?.trim() ?? "";
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(key));
}
