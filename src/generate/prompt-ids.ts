import type { Tokenizer } from "../tokenizer/index.js";

/** A prompt as training has it: BOS where the tokenizer puts it, then the text. */
export function promptIds(text: string, tokenizer: Tokenizer): Int32Array {
  const ids = tokenizer.encode(text);
  return tokenizer.addsBos && tokenizer.bosTokenId !== null ? Int32Array.from([tokenizer.bosTokenId, ...ids]) : ids;
}
