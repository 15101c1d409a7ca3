/** Appending to files that grow line by line and are cut back to their last whole line when they are opened again. */
import { fsyncSync, writeSync } from "node:fs";
import { writingError } from "./atomic.js";

/**
 * Writes all of `data`, or throws: a disk that fills up takes a part of a write without an error, and only the next one fails.
 *
 * @param path of the open file, for the message
 * @throws PolypacaError `DISK_FULL`, `IO` naming the path
 */
export function appendFully(descriptor: number, data: string | Uint8Array, path: string): void {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  try {
    for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written);
  } catch (cause) {
    throw writingError(path, cause);
  }
}

/** Makes what was appended last. A file system that reserves space late reports a full disk only here. */
export function syncAppended(descriptor: number, path: string): void {
  try {
    fsyncSync(descriptor);
  } catch (cause) {
    throw writingError(path, cause);
  }
}
