/**
 * Reads a SentencePiece `tokenizer.model`: a protobuf message of which fields 1 (pieces), 2 (trainer_spec) and 3 (normalizer_spec)
 * decide how text is encoded. Field numbers and defaults are those of sentencepiece_model.proto.
 */
import { PolypacaError } from "../errors.js";

/** What a piece is for; the numbers are the file's. */
export const pieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface SentencePiece {
  readonly piece: string;
  /** Log probability (unigram) or minus the merge order (BPE). */
  readonly score: number;
  readonly type: number;
}

/** How text is rewritten before it is split into pieces. */
export interface NormalizerSpec {
  /** Rules as a double-array trie and its replacements; empty for "identity". */
  readonly precompiledCharsmap: Uint8Array;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
  readonly escapeWhitespaces: boolean;
  /** The dummy space goes to the end instead of the beginning. */
  readonly treatWhitespaceAsSuffix: boolean;
}

export interface SentencePieceModel {
  /** By id. */
  readonly pieces: readonly SentencePiece[];
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly normalizer: NormalizerSpec;
}

const modelTypeNames = new Map([
  [1, "unigram"],
  [3, "word"],
  [4, "char"],
]);
const bpeModelType = 2;

/**
 * @param file named in errors
 * @throws PolypacaError `BAD_TOKENIZER` for what is not a SentencePiece model, `UNSUPPORTED` for models other than BPE
 */
export function parseSentencePieceModel(bytes: Uint8Array, file: string): SentencePieceModel {
  const pieces: SentencePiece[] = [];
  let trainer = new Map<number, FieldValue>();
  let normalizer = new Map<number, FieldValue>();
  for (const [field, value] of readFields(bytes, file)) {
    if (field === 1) pieces.push(toPiece(fieldsOf(value, file), file));
    if (field === 2) trainer = fieldsOf(value, file);
    if (field === 3) normalizer = fieldsOf(value, file);
  }
  if (pieces.length === 0) throw notAModel(file, "it holds no pieces");
  const modelType = numberField(trainer, 3, 1);
  if (modelType !== bpeModelType) {
    const name = modelTypeNames.get(modelType) ?? `type ${modelType}`;
    throw new PolypacaError(
      "UNSUPPORTED",
      `${file}: a SentencePiece ${name} model; polypaca reads BPE models (LLaMA, OpenLLaMA, Baichuan-2). Put the model's tokenizer.json beside it and remove this file.`,
    );
  }
  return {
    pieces,
    bosId: specialId(trainer, 41, 1, pieces.length),
    eosId: specialId(trainer, 42, 2, pieces.length),
    normalizer: {
      precompiledCharsmap: bytesField(normalizer, 2),
      addDummyPrefix: numberField(normalizer, 3, 1) !== 0,
      removeExtraWhitespaces: numberField(normalizer, 4, 1) !== 0,
      escapeWhitespaces: numberField(normalizer, 5, 1) !== 0,
      treatWhitespaceAsSuffix: numberField(trainer, 24, 0) !== 0,
    },
  };
}

function toPiece(fields: Map<number, FieldValue>, file: string): SentencePiece {
  const piece = bytesField(fields, 1);
  const score = fields.get(2);
  try {
    return {
      piece: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(piece),
      score: score instanceof Uint8Array && score.length === 4 ? viewOf(score).getFloat32(0, true) : 0,
      type: numberField(fields, 3, pieceType.normal),
    };
  } catch (cause) {
    throw new PolypacaError("BAD_TOKENIZER", `${file}: a piece is not valid UTF-8; the file is damaged, get it again.`, { cause });
  }
}

/** Ids below 0 mean "none"; the protobuf writes them as 64-bit two's complement, read here as beyond any vocabulary. */
function specialId(trainer: Map<number, FieldValue>, field: number, fallback: number, pieces: number): number | null {
  const id = numberField(trainer, field, fallback);
  return id < pieces ? id : null;
}

/** A varint as a number, everything else as its bytes. */
type FieldValue = number | Uint8Array;

function fieldsOf(value: FieldValue, file: string): Map<number, FieldValue> {
  if (typeof value === "number") throw notAModel(file, "a message was expected where a number is");
  return new Map(readFields(value, file));
}

function numberField(fields: Map<number, FieldValue>, field: number, fallback: number): number {
  const value = fields.get(field);
  return typeof value === "number" ? value : fallback;
}

function bytesField(fields: Map<number, FieldValue>, field: number): Uint8Array {
  const value = fields.get(field);
  return value instanceof Uint8Array ? value : new Uint8Array(0);
}

function* readFields(bytes: Uint8Array, file: string): Generator<[number, FieldValue]> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    // Plain multiplication, since shifts would wrap at 32 bits.
    for (let factor = 1; factor <= 2 ** 63; factor *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw notAModel(file, "it ends in the middle of a number");
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw notAModel(file, "a number is longer than 10 bytes");
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw notAModel(file, "it is cut short");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (wireType === 0) yield [field, varint()];
    else if (wireType === 1) yield [field, take(8)];
    else if (wireType === 2) yield [field, take(varint())];
    else if (wireType === 5) yield [field, take(4)];
    else throw notAModel(file, `wire type ${wireType} at byte ${at}`);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function notAModel(file: string, reason: string): PolypacaError {
  return new PolypacaError(
    "BAD_TOKENIZER",
    `${file}: not a SentencePiece model (${reason}). Get the tokenizer.model published with the weights.`,
  );
}
