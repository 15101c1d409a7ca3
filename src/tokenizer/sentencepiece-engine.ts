import { PolypacaError } from "../errors.js";
import { byteOfPiece, noBytes, type TokenizerEngine } from "./engine.js";
import { createSentencePieceBpe } from "./sentencepiece-bpe.js";
import { parseSentencePieceModel, pieceType, type SentencePieceModel } from "./sentencepiece-model.js";
import { createNormalizer, metaspace } from "./sentencepiece-normalizer.js";

/**
 * Tokenizer of a SentencePiece `tokenizer.model`; its ids are those of spm_encode.
 *
 * @param file named in errors
 * @throws PolypacaError `BAD_TOKENIZER`, `UNSUPPORTED` (unigram, word and character models; unused pieces)
 */
export function sentencePieceEngine(bytes: Uint8Array, file: string): TokenizerEngine {
  const model = parseSentencePieceModel(bytes, file);
  refuseUnusedPieces(model, file);
  const userDefined = model.pieces.filter(({ type }) => type === pieceType.userDefined).map(({ piece }) => piece);
  const normalize = createNormalizer(model.normalizer, userDefined, file);
  const encodeNormalized = createSentencePieceBpe(model);
  const ids = new Map(model.pieces.map(({ piece }, id) => [piece, id]));
  const texts = model.pieces.map(bytesOf);
  const isSpecial = (id: number): boolean => {
    const type = model.pieces[id]?.type;
    return type === pieceType.control || type === pieceType.unknown;
  };
  return {
    vocabSize: model.pieces.length,
    highestEncodedId: model.pieces.findLastIndex(({ type }) => type !== pieceType.control),
    bosTokenId: model.bosId,
    eosTokenId: model.eosId,
    leadingTokenId: undefined,
    stripsLeadingSpace: model.normalizer.addDummyPrefix && !model.normalizer.treatWhitespaceAsSuffix,
    notes: [],
    encode: (text) => encodeNormalized(normalize(text)),
    piece: (id) => model.pieces[id]?.piece,
    idOf: (piece) => ids.get(piece),
    bytes: (id) => texts[id] ?? noBytes,
    isSpecial,
  };
}

function bytesOf({ piece, type }: SentencePieceModel["pieces"][number]): Uint8Array {
  const byte = type === pieceType.byte ? byteOfPiece(piece) : null;
  return byte === null ? new TextEncoder().encode(piece.replaceAll(metaspace, " ")) : Uint8Array.of(byte);
}

/** They take part in merges and are then split again, which no model of our families needs. */
function refuseUnusedPieces(model: SentencePieceModel, file: string): void {
  const unused = model.pieces.find(({ type }) => type === pieceType.unused);
  if (unused) {
    throw new PolypacaError(
      "UNSUPPORTED",
      `${file}: piece "${unused.piece}" is marked unused, which polypaca does not read. Put the model's tokenizer.json beside it and remove this file.`,
    );
  }
}
