import type { Tokenizer } from "./tokenizer.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * What one token stands for, to be read by people: its text where it is whole characters (a special token's name), else each byte
 * that is only a part of one as "<0xE4>", the way byte-fallback vocabularies write it. An id that is no token: "<id 123>".
 */
export function tokenText(tokenizer: Tokenizer, id: number): string {
  const bytes = tokenizer.bytes(id);
  if (bytes.length === 0) return tokenizer.piece(id) ?? `<id ${id}>`;
  return characters(bytes) ? tokenizer.decode([id], { continuation: true, skipSpecial: false }) : splitCharacters(bytes);
}

/** null where the bytes are not whole characters. */
function characters(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

function splitCharacters(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at]!);
    const character = at + length <= bytes.length ? characters(bytes.subarray(at, at + length)) : null;
    text += character ?? `<0x${bytes[at]!.toString(16).toUpperCase().padStart(2, "0")}>`;
    at += character === null ? 1 : length;
  }
  return text;
}

/** Bytes of the character that a first byte announces. */
function sequenceLength(first: number): number {
  return first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
