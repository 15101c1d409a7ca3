import { PolypacaError } from "../errors.js";
import { byteChars } from "./tokenizer-json-engine.js";

/** Ids 0 to 3 of tokenizers made here; BLOOM's order. */
export const byteLevelSpecialTokens = ["<unk>", "<s>", "</s>", "<pad>"] as const;

/** Ids 4 to 259 are the bytes. */
export const smallestByteLevelVocabSize = byteLevelSpecialTokens.length + 256;

/** A `tokenizer.json` and the `tokenizer_config.json` beside it, ready for JSON.stringify. */
export interface TokenizerFiles {
  readonly tokenizer: object;
  readonly config: object;
}

/**
 * A tokenizer for models that have none: ids 0 to 3 are {@link byteLevelSpecialTokens}, 4 to 259 the 256 bytes, and the rest of
 * the vocabulary is reserved (`encode` never gives those ids, `decode` reads them as nothing).
 *
 * @param vocabSize of the model, at least 260
 * @param merges of a trained byte-level BPE, in order; each makes the next id. None by default
 * @throws PolypacaError `INVALID_ARGUMENT` for a vocabulary that is too small
 */
export function byteLevelTokenizer(vocabSize: number, merges: readonly (readonly [string, string])[] = []): TokenizerFiles {
  const needed = smallestByteLevelVocabSize + merges.length;
  if (vocabSize < needed) {
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `--vocab ${vocabSize}: a byte-level tokenizer needs at least ${needed} entries (4 special tokens, 256 bytes, ${merges.length} merges).`,
    );
  }
  const pieces = [...byteLevelSpecialTokens, ...byteChars, ...merges.map(([left, right]) => left + right)];
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: byteLevelSpecialTokens.map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: merges.map((pair) => pair.join(" ")),
      },
    },
    config: {
      tokenizer_class: "PreTrainedTokenizerFast",
      add_bos_token: false,
      bos_token: "<s>",
      eos_token: "</s>",
      pad_token: "<pad>",
      unk_token: "<unk>",
      clean_up_tokenization_spaces: false,
    },
  };
}
