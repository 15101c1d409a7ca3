/**
 * SentencePiece's normaliser, byte for byte as normalizer.cc does it: replacement rules (longest match in a double-array trie),
 * removal of extra whitespace, the dummy prefix, and spaces written as "▁" (U+2581).
 */
import { PolypacaError } from "../errors.js";
import type { NormalizerSpec } from "./sentencepiece-model.js";

/** How SentencePiece writes a space inside pieces. */
export const metaspace = "\u2581";

/**
 * @param userDefined pieces that stay as they are, whatever the rules say
 * @param file named in errors
 */
export function createNormalizer(spec: NormalizerSpec, userDefined: readonly string[], file: string): (text: string) => string {
  const rewrite = spec.precompiledCharsmap.length > 0 ? createRewriter(readCharsmap(spec.precompiledCharsmap, file), userDefined) : null;
  const space = spec.escapeWhitespaces ? metaspace : " ";
  return (text) => {
    let body = rewrite === null ? text : rewrite(text);
    if (spec.removeExtraWhitespaces) body = body.replace(/ {2,}/g, " ").replace(/^ | $/g, "");
    if (spec.escapeWhitespaces) body = body.replaceAll(" ", metaspace);
    // A "▁" that was in the text itself counts as a space here.
    if (spec.removeExtraWhitespaces) while (body.endsWith(space)) body = body.slice(0, -space.length);
    if (text === "" || (spec.removeExtraWhitespaces && body === "")) return "";
    if (!spec.addDummyPrefix) return body;
    return spec.treatWhitespaceAsSuffix ? body + space : space + body;
  };
}

interface Charsmap {
  readonly trie: Uint32Array;
  readonly replacements: Uint8Array;
}

function readCharsmap(blob: Uint8Array, file: string): Charsmap {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const trieBytes = blob.length >= 4 ? view.getUint32(0, true) : Number.POSITIVE_INFINITY;
  if (trieBytes === 0 || trieBytes % 4 !== 0 || 4 + trieBytes > blob.length) {
    throw new PolypacaError(
      "BAD_TOKENIZER",
      `${file}: its normalisation rules are damaged; get the tokenizer.model published with the weights.`,
    );
  }
  const trie = new Uint32Array(trieBytes / 4);
  for (let i = 0; i < trie.length; i++) trie[i] = view.getUint32(4 + 4 * i, true);
  return { trie, replacements: blob.subarray(4 + trieBytes) };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Applies, from left to right, whatever is longest: a user-defined piece as it is, else a rule; else one character is copied. */
function createRewriter({ trie, replacements }: Charsmap, userDefined: readonly string[]): (text: string) => string {
  const keep = userDefined.map((piece) => encoder.encode(piece)).sort((a, b) => b.length - a.length);
  return (text) => {
    let output = "";
    let bytes = encoder.encode(text);
    while (bytes.length > 0) {
      const piece = keep.find((key) => key.every((byte, i) => bytes[i] === byte));
      const rule = piece ? null : longestRule(trie, bytes);
      const length = piece?.length ?? rule?.length ?? characterLength(bytes[0]!);
      output += rule ? replacementAt(replacements, rule.offset) : decoder.decode(bytes.subarray(0, length));
      bytes = bytes.subarray(length);
    }
    return output;
  };
}

/** Longest key that starts `bytes`, in a trie laid out as darts-clone does: label, offset and leaf flag packed into 32 bits. */
function longestRule(trie: Uint32Array, bytes: Uint8Array): { length: number; offset: number } | null {
  let best: { length: number; offset: number } | null = null;
  let node = offsetOf(trie[0]!);
  for (let i = 0; i < bytes.length; i++) {
    node ^= bytes[i]!;
    const unit = trie[node] ?? 0;
    if ((unit & 0x800000ff) !== bytes[i]) break;
    node ^= offsetOf(unit);
    if ((unit >>> 8) & 1) best = { length: i + 1, offset: (trie[node] ?? 0) & 0x7fffffff };
  }
  return best;
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

function replacementAt(replacements: Uint8Array, offset: number): string {
  const end = replacements.indexOf(0, offset);
  return decoder.decode(replacements.subarray(offset, end < 0 ? replacements.length : end));
}

/** Bytes of the UTF-8 character that starts with `lead`; the text came out of a string and is well formed. */
function characterLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}
