/**
 * Byte-pair encoding as SentencePiece's bpe_model.cc does it. Its merges are not a list: two neighbours merge when their
 * concatenation is a piece, the highest score first and the leftmost of equals. A tokenizer.json has to spell this out as ranked
 * pairs, which gives the splits of one piece different ranks; scores keep them equal, so that ids match in runs such as "▁▁▁▁".
 */
import { byteOfPiece } from "./engine.js";
import { pieceType, type SentencePieceModel } from "./sentencepiece-model.js";

/** Encodes text that the normaliser has been through; without BOS and EOS. */
export type EncodeNormalized = (normalized: string) => number[];

export function createSentencePieceBpe(model: SentencePieceModel): EncodeNormalized {
  const bytePieces = new Map<number, number>();
  const userDefined: string[] = [];
  let unknownId = 0;
  model.pieces.forEach(({ piece, type }, id) => {
    if (type === pieceType.byte) bytePieces.set(byteOfPiece(piece) ?? -1, id);
    if (type === pieceType.userDefined) userDefined.push(piece);
    if (type === pieceType.unknown) unknownId = id;
  });
  const byteFallback = bytePieces.size === 256;
  const table = new SymbolTable(model, new Set(userDefined));
  const splitter = userDefinedPattern(userDefined);
  return (normalized) => {
    const ids: number[] = [];
    for (const symbol of mergeSymbols(splitSymbols(normalized, splitter), table)) {
      const id = table.pieceId(symbol);
      if (id >= 0) ids.push(id);
      else if (byteFallback) for (const byte of encoder.encode(table.text(symbol))) ids.push(bytePieces.get(byte)!);
      // SentencePiece gives a run of unknown characters one id.
      else if (ids.at(-1) !== unknownId) ids.push(unknownId);
    }
    return ids;
  };
}

const encoder = new TextEncoder();

function userDefinedPattern(pieces: readonly string[]): RegExp | null {
  if (pieces.length === 0) return null;
  const longestFirst = [...pieces].sort((a, b) => b.length - a.length);
  return new RegExp(`(${longestFirst.map((piece) => piece.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|")})`, "u");
}

/** Characters, with user-defined pieces kept whole. */
function splitSymbols(text: string, splitter: RegExp | null): string[] {
  if (splitter === null) return Array.from(text);
  return text.split(splitter).flatMap((part, i) => (i % 2 === 1 ? [part] : Array.from(part)));
}

/**
 * Numbers for pieces and for the characters that come up, so that what two neighbours merge to is looked up by numbers and the
 * strings are joined once per pair, not once per occurrence.
 */
class SymbolTable {
  // Maps, since pieces such as "constructor" are also names on plain objects.
  readonly #symbols = new Map<string, number>();
  readonly #texts: string[] = [];
  readonly #pieceIds: number[] = [];
  readonly #scores: number[] = [];
  /** By left symbol, then by right; two small integers, since V8 hashes larger keys slowly. */
  readonly #pairs: (Map<number, number> | undefined)[] = [];
  readonly #frozen: ReadonlySet<string>;

  /** @param frozen pieces that merge with nothing */
  constructor(model: SentencePieceModel, frozen: ReadonlySet<string>) {
    this.#frozen = frozen;
    model.pieces.forEach(({ piece, score, type }, id) => {
      if (type === pieceType.normal || type === pieceType.userDefined) this.#add(piece, id, score);
    });
  }

  /** Of a character or piece. */
  symbol(text: string): number {
    return this.#symbols.get(text) ?? this.#add(text, -1, 0);
  }

  text(symbol: number): string {
    return this.#texts[symbol]!;
  }

  /** -1 for a character that is no piece. */
  pieceId(symbol: number): number {
    return this.#pieceIds[symbol]!;
  }

  score(symbol: number): number {
    return this.#scores[symbol]!;
  }

  /** The symbol of both texts together; -1 where that is no piece. */
  merged(left: number, right: number): number {
    this.#pairs[left] ??= new Map();
    const pairs = this.#pairs[left];
    const known = pairs.get(right);
    if (known !== undefined) return known;
    const [leftText, rightText] = [this.#texts[left]!, this.#texts[right]!];
    const symbol = this.#frozen.has(leftText) || this.#frozen.has(rightText) ? undefined : this.#symbols.get(leftText + rightText);
    const merged = symbol !== undefined && this.#pieceIds[symbol]! >= 0 ? symbol : -1;
    pairs.set(right, merged);
    return merged;
  }

  #add(text: string, pieceId: number, score: number): number {
    const symbol = this.#texts.length;
    this.#symbols.set(text, symbol);
    this.#texts.push(text);
    this.#pieceIds.push(pieceId);
    this.#scores.push(score);
    return symbol;
  }
}

/** A pair of neighbours that may merge; stale once either of them has changed. */
interface Candidate {
  readonly at: number;
  readonly left: number;
  readonly right: number;
  readonly merged: number;
  readonly score: number;
}

function mergeSymbols(texts: readonly string[], table: SymbolTable): Int32Array {
  const symbols = Int32Array.from(texts, (text) => table.symbol(text));
  const previous = Int32Array.from(texts, (_, i) => i - 1);
  const next = Int32Array.from(texts, (_, i) => (i + 1 < texts.length ? i + 1 : -1));
  const queue = new CandidateQueue();
  const offer = (at: number): void => {
    if (at < 0 || next[at]! < 0) return;
    const left = symbols[at]!;
    const right = symbols[next[at]!]!;
    const merged = table.merged(left, right);
    if (merged >= 0) queue.push({ at, left, right, merged, score: table.score(merged) });
  };
  for (let at = 0; at < texts.length; at++) offer(at);
  for (let candidate = queue.pop(); candidate; candidate = queue.pop()) {
    const { at, left, right, merged } = candidate;
    const after = next[at]!;
    if (symbols[at] !== left || after < 0 || symbols[after] !== right) continue;
    symbols[at] = merged;
    symbols[after] = -1;
    next[at] = next[after]!;
    if (next[at]! >= 0) previous[next[at]!] = at;
    offer(previous[at]!);
    offer(at);
  }
  return symbols.filter((symbol) => symbol >= 0);
}

/** Binary heap: the highest score first, the leftmost of equals. */
class CandidateQueue {
  readonly #heap: Candidate[] = [];

  push(candidate: Candidate): void {
    let at = this.#heap.length;
    this.#heap.push(candidate);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(candidate, this.#heap[parent]!)) break;
      this.#heap[at] = this.#heap[parent]!;
      at = parent;
    }
    this.#heap[at] = candidate;
  }

  pop(): Candidate | undefined {
    const top = this.#heap[0];
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return top;
    const size = this.#heap.length;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && before(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!before(this.#heap[child]!, last)) break;
      this.#heap[at] = this.#heap[child]!;
      at = child;
    }
    this.#heap[at] = last;
    return top;
  }
}

function before(a: Candidate, b: Candidate): boolean {
  return a.score !== b.score ? a.score > b.score : a.at < b.at;
}
