/** Text to token ids and back: tokenizer.json and SentencePiece models as Hugging Face folders have them. */
export { byteLevelSpecialTokens, byteLevelTokenizer, smallestByteLevelVocabSize, type TokenizerFiles } from "./byte-level.js";
export { TokenStream } from "./token-stream.js";
export { tokenText } from "./token-text.js";
export { type DecodeOptions, inspectTokenizerFile, loadTokenizer, type Tokenizer, type TokenizerFileInfo } from "./tokenizer.js";
