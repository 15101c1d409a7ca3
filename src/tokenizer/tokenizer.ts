import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { TokenizerEngine } from "./engine.js";
import { sentencePieceEngine } from "./sentencepiece-engine.js";
import { tokenizerJsonEngine } from "./tokenizer-json-engine.js";

export interface DecodeOptions {
  /** Leave out BOS, EOS, UNK and padding; default true. */
  readonly skipSpecial?: boolean;
  /** The ids go on from earlier text, so a first space is kept where the tokenizer's dummy prefix would be dropped; default false. */
  readonly continuation?: boolean;
}

/** Text to token ids and back, as the model of one folder expects it. */
export interface Tokenizer {
  /** Highest id + 1. The model's vocabulary may be larger (padding rows), never smaller than what `encode` gives. */
  readonly vocabSize: number;
  /** Sequences start with BOS. `encode` does not put it there: callers do, once per sequence. */
  readonly addsBos: boolean;
  /** From config.json; the tokenizer's own where config.json has none. */
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  /** SHA-256 of all that decides the ids. */
  readonly contentHash: string;
  /** What the user should know: files that disagree, EOS equal to padding, faulty conversions. */
  readonly notes: readonly string[];
  /** Absolute or as given: the tokenizer's files, which a checkpoint must carry. */
  readonly files: readonly string[];
  /** Ids without BOS and EOS; the names of special tokens inside the text are plain text. */
  encode(text: string): Int32Array;
  /** Ids that are no token stand for nothing; broken UTF-8 becomes U+FFFD. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** As the vocabulary writes it. */
  piece(id: number): string | undefined;
  /** UTF-8 that the token stands for, maybe a part of a character. */
  bytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  /** Decoding drops the first space of a text (the dummy prefix). */
  readonly stripsLeadingSpace: boolean;
}

const tokenizerFileNames = [
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
] as const;

export interface LoadTokenizerOptions {
  /** false: a folder of tokenizer files alone will do, its own names of BOS and EOS then hold. Default true. */
  readonly needsConfig?: boolean;
}

/**
 * Tokenizer of a Hugging Face model folder. `tokenizer.model` is preferred to `tokenizer.json`, since converted files are
 * sometimes wrong; where both are there, they are compared on a text and a difference becomes a note.
 *
 * @throws PolypacaError `NOT_FOUND`, `BAD_TOKENIZER`, `UNSUPPORTED`, `CHECKPOINT_MISMATCH` (ids beyond config.json's vocab_size)
 */
export async function loadTokenizer(modelDir: string, { needsConfig = true }: LoadTokenizerOptions = {}): Promise<Tokenizer> {
  const files = await readTokenizerFiles(modelDir);
  const config = parseObject(await readConfig(modelDir, needsConfig), join(modelDir, "config.json"));
  const settings = parseObject(files.get("tokenizer_config.json"), join(modelDir, "tokenizer_config.json"));
  const jsonFile = files.get("tokenizer.json");
  const modelFile = files.get("tokenizer.model");
  const fromJson = jsonFile ? tokenizerJsonEngine(jsonFile.toString("utf8"), join(modelDir, "tokenizer.json")) : null;
  const fromModel = modelFile ? sentencePieceEngine(modelFile, join(modelDir, "tokenizer.model")) : null;
  const engine = fromModel ?? fromJson;
  if (!engine) {
    throw new PolypacaError(
      "NOT_FOUND",
      `${modelDir}: no tokenizer.json and no tokenizer.model. Copy the tokenizer published with the model there.`,
    );
  }
  const notes = [...(fromModel && fromJson ? compareEngines(fromModel, fromJson, modelDir) : engine.notes)];
  const addsBos = decideBos(settings, engine);
  const named = new Map([
    ["tokenizer_config.json", settings],
    ["special_tokens_map.json", parseObject(files.get("special_tokens_map.json"), join(modelDir, "special_tokens_map.json"))],
  ]);
  const ids = decideTokenIds(config, named, engine, notes, modelDir);
  if (addsBos && ids.bos === null) {
    throw new PolypacaError(
      "BAD_TOKENIZER",
      `${modelDir}: the tokenizer puts BOS first, but neither config.json nor the tokenizer names it. Set bos_token_id in config.json.`,
    );
  }
  assertFitsVocabulary(engine, ids, config.vocab_size, modelDir);
  const hash = createHash("sha256").update((fromModel ? modelFile : jsonFile)!);
  hash.update(JSON.stringify({ format: fromModel ? "sentencepiece" : "json", addsBos, ...ids }));
  return createTokenizer(engine, {
    addsBos,
    bosTokenId: ids.bos,
    eosTokenId: ids.eos,
    contentHash: hash.digest("hex"),
    notes,
    files: [...files.keys()].map((name) => join(modelDir, name)),
  });
}

/** What a new model needs to know of a `tokenizer.json` or `tokenizer.model` outside a model folder. */
export interface TokenizerFileInfo {
  readonly vocabSize: number;
  /** By name: "<s>" or "<|endoftext|>"; null where there is none. */
  readonly bosTokenId: number | null;
  /** By name: "</s>" or "<|endoftext|>"; null where there is none. */
  readonly eosTokenId: number | null;
}

/** @throws PolypacaError `NOT_FOUND`, `BAD_TOKENIZER`, `UNSUPPORTED` */
export async function inspectTokenizerFile(path: string): Promise<TokenizerFileInfo> {
  const content = await readFile(path).catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  const engine = basename(path).endsWith(".model")
    ? sentencePieceEngine(content, path)
    : tokenizerJsonEngine(content.toString("utf8"), path);
  return { vocabSize: engine.vocabSize, bosTokenId: engine.bosTokenId, eosTokenId: engine.eosTokenId };
}

function createTokenizer(
  engine: TokenizerEngine,
  settings: Pick<Tokenizer, "addsBos" | "bosTokenId" | "eosTokenId" | "contentHash" | "notes" | "files">,
): Tokenizer {
  return {
    ...settings,
    vocabSize: engine.vocabSize,
    stripsLeadingSpace: engine.stripsLeadingSpace,
    encode: (text) => Int32Array.from(engine.encode(text)),
    decode: (ids, { skipSpecial = true, continuation = false } = {}) => {
      const parts = Array.from(ids, (id) => (skipSpecial && engine.isSpecial(id) ? new Uint8Array(0) : engine.bytes(id)));
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(parts));
      return engine.stripsLeadingSpace && !continuation && text.startsWith(" ") ? text.slice(1) : text;
    },
    piece: engine.piece,
    bytes: engine.bytes,
    isSpecial: engine.isSpecial,
  };
}

type JsonObject = { readonly [key: string]: unknown };

async function readTokenizerFiles(modelDir: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of tokenizerFileNames) {
    const content = await readIfThere(join(modelDir, name));
    if (content) files.set(name, content);
  }
  return files;
}

async function readConfig(modelDir: string, isNeeded: boolean): Promise<Buffer | undefined> {
  const content = await readIfThere(join(modelDir, "config.json"));
  if (content || !isNeeded) return content ?? undefined;
  throw new PolypacaError("NOT_FOUND", `${join(modelDir, "config.json")}: not there. --model takes a Hugging Face model folder.`);
}

async function readIfThere(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (cause) {
    const error = PolypacaError.from(cause);
    if (error.code === "NOT_FOUND") return null;
    throw error;
  }
}

function parseObject(content: Buffer | undefined, file: string): JsonObject {
  if (!content) return {};
  try {
    const value: unknown = JSON.parse(content.toString("utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject;
  } catch (cause) {
    throw new PolypacaError("BAD_TOKENIZER", `${file}: not valid JSON (${String(cause)}). Get the file published with the model.`, {
      cause,
    });
  }
  throw new PolypacaError("BAD_TOKENIZER", `${file}: a JSON object was expected. Get the file published with the model.`);
}

/** LLaMA's tokenizer classes put BOS first unless told otherwise, whatever the post-processor in tokenizer.json says. */
function decideBos(settings: JsonObject, engine: TokenizerEngine): boolean {
  if (typeof settings.add_bos_token === "boolean") return settings.add_bos_token;
  const isLlamaLike = engine.leadingTokenId === undefined || /^(Llama|CodeLlama|Baichuan)/.test(String(settings.tokenizer_class));
  return isLlamaLike || engine.leadingTokenId !== null;
}

/** Settings by file name. */
type NamedSettings = ReadonlyMap<string, JsonObject>;

interface TokenIds {
  readonly bos: number | null;
  readonly eos: number | null;
}

function decideTokenIds(config: JsonObject, files: NamedSettings, engine: TokenizerEngine, notes: string[], modelDir: string): TokenIds {
  const decide = (name: "bos" | "eos", own: number | null): number | null => {
    const named = [...files]
      .map(([file, settings]) => ({ file, id: engine.idOf(tokenText(settings[`${name}_token`]) ?? "") }))
      .filter((token): token is { file: string; id: number } => token.id !== undefined);
    const id = configId(config[`${name}_token_id`], `${name}_token_id`, modelDir, notes);
    if (id === null) return named[0]?.id ?? own;
    for (const token of named.filter((token) => token.id !== id)) {
      notes.push(
        `${modelDir}: config.json says ${name}_token_id ${id} ("${engine.piece(id) ?? "no token"}"), ${token.file} says ${token.id} ("${engine.piece(token.id)}"); config.json holds.`,
      );
    }
    return id;
  };
  const ids = { bos: decide("bos", engine.bosTokenId), eos: decide("eos", engine.eosTokenId) };
  if (ids.eos === null)
    notes.push(`${modelDir}: no EOS token is known, so a tuned model does not learn to stop. Set eos_token_id in config.json.`);
  else if (config.pad_token_id === ids.eos)
    notes.push(`${modelDir}: EOS and padding are the same token (${ids.eos}). Training uses no padding, so EOS is learnt all the same.`);
  return ids;
}

function tokenText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null && "content" in value) return String(value.content);
  return undefined;
}

/** Some configurations list several EOS ids; the first is the one that ends a text. */
function configId(value: unknown, key: string, modelDir: string, notes: string[]): number | null {
  if (Array.isArray(value)) {
    notes.push(`${modelDir}: config.json lists ${value.length} ids as ${key}; the first, ${String(value[0])}, is used.`);
    return configId(value[0], key, modelDir, notes);
  }
  if (value === undefined || value === null) return null;
  if (typeof value === "number" && Number.isInteger(value)) return value < 0 ? null : value;
  throw new PolypacaError("BAD_TOKENIZER", `${join(modelDir, "config.json")}: ${key} is ${JSON.stringify(value)}, expected an id.`);
}

function assertFitsVocabulary(engine: TokenizerEngine, ids: TokenIds, vocabSize: unknown, modelDir: string): void {
  if (typeof vocabSize !== "number") return;
  const last = Math.max(engine.highestEncodedId, ids.bos ?? 0, ids.eos ?? 0);
  if (last < vocabSize) return;
  throw new PolypacaError(
    "CHECKPOINT_MISMATCH",
    `${modelDir}: the tokenizer gives ids up to ${last} ("${engine.piece(last) ?? "no token"}"), config.json says vocab_size ${vocabSize}. Use the tokenizer published with these weights.`,
  );
}

/** Scripts, digits, punctuation, runs of spaces and words that known conversions split wrongly. */
const comparisonText = [
  "The thermal tasks of  constructor(x, y)   were finished on 2024-05-17, weren't they?",
  "Le café coûte 3,50 €; Übermäßig viele Bäume. ¿Qué tal?\n\tHyvää päivää",
  "Быстрая коричневая лиса. Здравей! 你好，世界。আমি বাংলা हिन्दी",
].join("\n");

function compareEngines(model: TokenizerEngine, json: TokenizerEngine, modelDir: string): string[] {
  const expected = model.encode(comparisonText);
  const found = json.encode(comparisonText);
  const at = expected.findIndex((id, i) => id !== found[i]);
  if (at < 0 && expected.length === found.length) return [];
  const position = at < 0 ? expected.length : at;
  const show = (engine: TokenizerEngine, ids: readonly number[]): string =>
    `${ids[position] ?? "nothing"} ("${engine.piece(ids[position] ?? -1) ?? ""}")`;
  return [
    `${modelDir}: tokenizer.model and tokenizer.json disagree: token ${position} of a test text is ${show(model, expected)} and ${show(json, found)}. tokenizer.model is used; tools that read tokenizer.json will see other ids.`,
  ];
}
