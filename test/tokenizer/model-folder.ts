import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

export const fixtureDir = new URL("./fixtures/", import.meta.url).pathname;
export const sampleDir = new URL("../../experiments/sample/", import.meta.url).pathname;
/** Real tokenizers, which may not be part of the repository; tests that use them skip where the folder is absent. */
export const realTokenizerDir = new URL("../../../shared/tokenizers/", import.meta.url).pathname;

export interface ModelFolder {
  /** Bytes, JSON values, or the path of a file to copy (a string). */
  readonly [name: string]: string | Uint8Array | object;
}

/** A model folder for one test: config.json and the tokenizer files given. */
export async function modelFolder(
  files: ModelFolder,
  config: object = { vocab_size: 70_000, bos_token_id: 1, eos_token_id: 2 },
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "polypaca-tokenizer-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, content] of Object.entries({ "config.json": config, ...files })) {
    if (typeof content === "string") await copyFile(content, join(folder, name));
    else await writeFile(join(folder, name), content instanceof Uint8Array ? content : JSON.stringify(content));
  }
  return folder;
}

/** A piece of a SentencePiece model; type 1 is an ordinary piece. */
export interface TestPiece {
  readonly piece: string;
  readonly score?: number;
  readonly type?: number;
}

export interface TestModel {
  readonly pieces: readonly TestPiece[];
  /** 1 unigram, 2 BPE. */
  readonly modelType?: number;
  readonly addDummyPrefix?: boolean;
}

/** Writes a `tokenizer.model`, for models that spm_train would not make. */
export function sentencePieceFile({ pieces, modelType = 2, addDummyPrefix = true }: TestModel): Uint8Array {
  const pieceFields = pieces.map(({ piece, score = 0, type = 1 }) =>
    message(1, Buffer.concat([message(1, Buffer.from(piece)), float(2, score), varintField(3, type)])),
  );
  const trainer = message(2, varintField(3, modelType));
  const normalizer = message(3, Buffer.concat([varintField(3, Number(addDummyPrefix)), varintField(4, 0)]));
  return Buffer.concat([...pieceFields, trainer, normalizer]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) bytes.push((value % 128) | 0x80);
  return Buffer.from([...bytes, value]);
}

function varintField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

function message(field: number, content: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(field * 8 + 5), bytes]);
}
