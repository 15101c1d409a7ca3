/**
 * Tokenizer of a `tokenizer.json`, encoding through @huggingface/tokenizers. Two things are done here instead of there: special
 * tokens are taken out before the engine sees the file, so that "<s>" inside a text is five characters or so and never id 1; and
 * decoding works on bytes, so that it can stop in the middle of a character.
 */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { PolypacaError } from "../errors.js";
import { byteOfPiece, noBytes, type TokenizerEngine } from "./engine.js";
import { metaspace } from "./sentencepiece-normalizer.js";

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

type JsonObject = { readonly [key: string]: unknown };

interface TokenizerFile {
  readonly root: JsonObject;
  readonly model: JsonObject;
  readonly vocab: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  readonly addedTokens: readonly AddedToken[];
}

/**
 * @param text of the file
 * @param file named in errors
 * @throws PolypacaError `BAD_TOKENIZER`, `UNSUPPORTED` (models other than BPE, decoders other than byte-level and SentencePiece-like)
 */
export function tokenizerJsonEngine(text: string, file: string): TokenizerEngine {
  const parsed = parseTokenizerFile(text, file);
  const { vocab, addedTokens, model } = parsed;
  const special = new Map(addedTokens.filter((token) => token.special).map(({ id, content }) => [id, content]));
  const plainAdded = addedTokens.filter((token) => !token.special);
  const engine = createEngine(parsed, new Set(special.values()), file);
  const pieces = new Map([...vocab].map(([piece, id]) => [id, piece]));
  for (const { id, content } of addedTokens) pieces.set(id, content);
  const ids = new Map([...pieces].map(([id, piece]) => [piece, id]));
  const decoder = describeDecoder(parsed.root.decoder, file);
  const literal = new Set(addedTokens.map(({ id }) => id));
  const texts = new Map<number, Uint8Array>();
  const bytes = (id: number): Uint8Array => {
    const piece = pieces.get(id);
    if (piece === undefined) return noBytes;
    const known = texts.get(id) ?? bytesOfPiece(piece, literal.has(id), decoder, model.byte_fallback === true);
    texts.set(id, known);
    return known;
  };
  const encodable = [...vocab].filter(([piece, id]) => special.get(id) !== piece).map(([, id]) => id);
  return {
    vocabSize: highest(pieces.keys()) + 1,
    highestEncodedId: Math.max(highest(encodable), highest(plainAdded.map(({ id }) => id))),
    bosTokenId: firstId(ids, ["<s>", "<|endoftext|>"]),
    eosTokenId: firstId(ids, ["</s>", "<|endoftext|>"]),
    leadingTokenId: leadingToken(parsed.root.post_processor, ids, file),
    stripsLeadingSpace: decoder.stripsLeadingSpace,
    notes: mergeOrderNotes(parsed, file),
    encode: (plain) => engine.encode(plain, { add_special_tokens: false }).ids,
    piece: (id) => pieces.get(id),
    idOf: (piece) => ids.get(piece),
    bytes,
    isSpecial: (id) => special.has(id),
  };
}

function parseTokenizerFile(text: string, file: string): TokenizerFile {
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch (cause) {
    throw new PolypacaError(
      "BAD_TOKENIZER",
      `${file}: not valid JSON (${String(cause)}). Get the tokenizer.json published with the weights.`,
      { cause },
    );
  }
  if (!isObject(root) || !isObject(root.model)) throw malformed(file, 'it has no "model" object');
  const model = root.model;
  if (model.type !== "BPE" && !(model.type === undefined && Array.isArray(model.merges))) {
    throw new PolypacaError(
      "UNSUPPORTED",
      `${file}: a ${String(model.type)} model; polypaca reads BPE tokenizers (BLOOM, Pythia, LLaMA, OpenLLaMA, Baichuan-2).`,
    );
  }
  if (!isObject(model.vocab) || !Array.isArray(model.merges)) throw malformed(file, '"model" lacks "vocab" or "merges"');
  // Object.entries, since pieces such as "constructor" and "__proto__" are ordinary own keys after JSON.parse.
  const vocab = new Map<string, number>();
  for (const [piece, id] of Object.entries(model.vocab)) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) throw malformed(file, `id of piece "${piece}" is ${JSON.stringify(id)}`);
    vocab.set(piece, id);
  }
  return {
    root,
    model,
    vocab,
    merges: model.merges.map((merge) => toMerge(merge, file)),
    addedTokens: toAddedTokens(root.added_tokens, file),
  };
}

function toMerge(merge: unknown, file: string): readonly [string, string] {
  const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
  if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== "string" || typeof pair[1] !== "string") {
    throw malformed(file, `merge ${JSON.stringify(merge)} is not a pair of pieces`);
  }
  return [pair[0], pair[1]];
}

function toAddedTokens(value: unknown, file: string): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw malformed(file, '"added_tokens" is not an array');
  return value.map((token: unknown) => {
    if (!isObject(token) || typeof token.id !== "number" || typeof token.content !== "string") {
      throw malformed(file, `added token ${JSON.stringify(token)} lacks "id" or "content"`);
    }
    return { ...token, id: token.id, content: token.content, special: token.special === true };
  });
}

/** What is used of the engine; its own declarations do not resolve under NodeNext. */
interface BpeEngine {
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: readonly number[] };
  readonly model: BpeModel;
}

interface BpeModel {
  /** Pieces of one word. */
  bpe(word: string): readonly string[];
  max_length_to_cache: number;
}

function createEngine({ root, model, vocab, merges, addedTokens }: TokenizerFile, special: ReadonlySet<string>, file: string): BpeEngine {
  const hidden = (piece: string): boolean => special.has(piece) && piece !== model.unk_token;
  const plain = {
    ...root,
    normalizer: root.normalizer ?? null,
    pre_tokenizer: root.pre_tokenizer ?? null,
    post_processor: null,
    decoder: null,
    added_tokens: addedTokens.filter((token) => !token.special),
    model: {
      ...model,
      type: "BPE",
      vocab: Object.fromEntries([...vocab].filter(([piece]) => !hidden(piece))),
      merges: merges.filter(([left, right]) => !special.has(left + right)),
    },
  };
  try {
    const engine: BpeEngine = new HuggingFaceTokenizer(plain, {});
    rememberWords(engine.model);
    return engine;
  } catch (cause) {
    throw new PolypacaError(
      "BAD_TOKENIZER",
      `${file}: ${cause instanceof Error ? cause.message : String(cause)}. Get the tokenizer.json published with the weights.`,
      { cause },
    );
  }
}

const mostWords = 2 ** 18;
const longestWord = 64;

/** The engine's own cache reorders itself at each look-up, which takes longer than all else; this one is emptied when it is full. */
function rememberWords(model: BpeModel): void {
  const words = new Map<string, readonly string[]>();
  const merge = model.bpe.bind(model);
  model.max_length_to_cache = 0;
  model.bpe = (word) => {
    const known = words.get(word);
    if (known) return known;
    const pieces = merge(word);
    if (words.size >= mostWords) words.clear();
    if (word.length <= longestWord) words.set(word, pieces);
    return pieces;
  };
}

interface DecoderForm {
  readonly isByteLevel: boolean;
  readonly stripsLeadingSpace: boolean;
}

function describeDecoder(decoder: unknown, file: string): DecoderForm {
  const steps = isObject(decoder) && decoder.type === "Sequence" && Array.isArray(decoder.decoders) ? decoder.decoders : [decoder];
  let isByteLevel = false;
  let stripsLeadingSpace = false;
  for (const step of steps as unknown[]) {
    const type = isObject(step) ? step.type : undefined;
    if (type === "ByteLevel") isByteLevel = true;
    else if (isObject(step) && type === "Metaspace")
      stripsLeadingSpace ||= step.prepend_scheme !== "never" && step.add_prefix_space !== false;
    else if (isObject(step) && type === "Strip") stripsLeadingSpace ||= step.content === " " && step.start === 1;
    else if (type !== "Replace" && type !== "ByteFallback" && type !== "Fuse") {
      throw new PolypacaError(
        "UNSUPPORTED",
        `${file}: decoder ${type === undefined ? "none" : String(type)}; polypaca reads byte-level and SentencePiece-like tokenizers.`,
      );
    }
  }
  return { isByteLevel, stripsLeadingSpace };
}

const encoder = new TextEncoder();

function bytesOfPiece(piece: string, isLiteral: boolean, decoder: DecoderForm, byteFallback: boolean): Uint8Array {
  if (isLiteral) return encoder.encode(piece);
  if (decoder.isByteLevel) return Uint8Array.from(Array.from(piece).flatMap((char) => byteOfChar.get(char) ?? [...encoder.encode(char)]));
  const byte = byteFallback ? byteOfPiece(piece) : null;
  return byte === null ? encoder.encode(piece.replaceAll(metaspace, " ")) : Uint8Array.of(byte);
}

/** GPT-2's table: a printable character for each byte, the printable ones of Latin-1 standing for themselves. */
export const byteChars: readonly string[] = (() => {
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : 0x100 + others++);
  });
})();
const byteOfChar: ReadonlyMap<string, number> = new Map(byteChars.map((char, byte) => [char, byte]));

/** The token that the post-processor's template puts first; null for none. */
function leadingToken(processor: unknown, ids: ReadonlyMap<string, number>, file: string): number | null {
  if (!isObject(processor)) return null;
  if (processor.type === "Sequence" && Array.isArray(processor.processors)) {
    return processor.processors.map((inner: unknown) => leadingToken(inner, ids, file)).find((id) => id !== null) ?? null;
  }
  if (processor.type !== "TemplateProcessing" || !Array.isArray(processor.single)) return null;
  const first: unknown = processor.single[0];
  if (!isObject(first) || !isObject(first.SpecialToken)) return null;
  const name = String(first.SpecialToken.id);
  const id = ids.get(name);
  if (id === undefined) throw malformed(file, `its post-processor puts "${name}" first, which is not in the vocabulary`);
  return id;
}

/**
 * SentencePiece merges by score, so in a converted file merges stand in the order of the ids they make. Files in circulation that
 * break this order (OpenLLaMA's) encode text otherwise than the model was trained.
 */
function mergeOrderNotes({ model, merges, vocab }: TokenizerFile, file: string): string[] {
  if (model.byte_fallback !== true) return [];
  let last = -1;
  for (const [left, right] of merges) {
    const id = vocab.get(left + right) ?? last;
    if (id < last) {
      return [
        `${file}: its merges are not in the order of the pieces' ids (at "${left + right}"), as in faulty conversions of OpenLLaMA's tokenizer; ids may differ from those the model was trained with. Put the model's tokenizer.model beside it.`,
      ];
    }
    last = id;
  }
  return [];
}

function firstId(ids: ReadonlyMap<string, number>, names: readonly string[]): number | null {
  return names.map((name) => ids.get(name)).find((id) => id !== undefined) ?? null;
}

function highest(ids: Iterable<number>): number {
  let result = -1;
  for (const id of ids) if (id > result) result = id;
  return result;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function malformed(file: string, reason: string): PolypacaError {
  return new PolypacaError("BAD_TOKENIZER", `${file}: ${reason}. Get the tokenizer.json published with the weights.`);
}
