/** What both tokenizer formats provide; tokenizer.ts adds the model folder's settings to it. */
export interface TokenizerEngine {
  /** Highest id + 1, tokens that only exist as ids (padding, reserved) included. */
  readonly vocabSize: number;
  /** Highest id that `encode` can give. */
  readonly highestEncodedId: number;
  /** BOS and EOS as the file itself names them; null where it does not. */
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  /** Token its own rules put first, null for none, undefined where the format does not say. */
  readonly leadingTokenId: number | null | undefined;
  /** The first space of a decoded text is the dummy prefix and is dropped. */
  readonly stripsLeadingSpace: boolean;
  /** Oddities of the file that the user should know. */
  readonly notes: readonly string[];
  /** Ids of plain text, without BOS and EOS; names of special tokens in it are plain text. */
  encode(text: string): readonly number[];
  /** As the vocabulary writes it; undefined for ids that it lacks. */
  piece(id: number): string | undefined;
  idOf(piece: string): number | undefined;
  /** UTF-8 that the token stands for, maybe a part of a character; empty for ids without text. */
  bytes(id: number): Uint8Array;
  /** Control tokens: BOS, EOS, UNK, padding. */
  isSpecial(id: number): boolean;
}

export const noBytes = new Uint8Array(0);

const bytePiecePattern = /^<0x([0-9A-Fa-f]{2})>$/;

/** The byte of a byte-fallback piece such as "<0x0A>"; null for other pieces. */
export function byteOfPiece(piece: string): number | null {
  const match = bytePiecePattern.exec(piece);
  return match ? Number.parseInt(match[1]!, 16) : null;
}
