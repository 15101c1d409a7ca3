import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { Tokenizer } from "../../src/tokenizer/index.js";

export const sampleDir = new URL("../../experiments/sample/", import.meta.url).pathname;
/** Real data, which may not be part of the repository; tests that use it skip where the folder is absent. */
export const realDataDir = new URL("../../../shared/data/", import.meta.url).pathname;

/** A temporary folder that lasts for one test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "polypaca-data-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export async function dataFile(name: string, content: string | Uint8Array | object): Promise<string> {
  const file = join(await temporaryFolder(), name);
  await writeFile(file, typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content));
  return file;
}

export function alpaca(instruction: string, output: string, more: object = {}): { instruction: string; input: string; output: string } {
  return { instruction, input: "", output, ...more };
}

/** One token per character: its code point plus 10. BOS is 1, EOS 2. */
export function characterTokenizer(
  settings: { readonly addsBos?: boolean; readonly eosTokenId?: number | null; readonly contentHash?: string } = {},
): Tokenizer {
  const text = (id: number): string => (id < 10 ? "" : String.fromCodePoint(id - 10));
  return {
    vocabSize: 0x110000 + 10,
    addsBos: false,
    bosTokenId: 1,
    eosTokenId: 2,
    contentHash: "characters",
    notes: [],
    files: [],
    stripsLeadingSpace: false,
    encode: (plain) => Int32Array.from(Array.from(plain), (char) => char.codePointAt(0)! + 10),
    decode: (ids) => Array.from(ids, text).join(""),
    piece: text,
    bytes: (id) => Buffer.from(text(id)),
    isSpecial: (id) => id < 10,
    ...settings,
  };
}

/** Small deterministic numbers for generated data (a linear congruential generator). */
export function numbersFrom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
