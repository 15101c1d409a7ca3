import { Boundaries, boundaryKinds } from "./boundaries.js";

/** While a line is being cut, one character of private use stands for each mark. */
export const maskCharacter = "\ue000";

export interface CutOptions {
  /** BCP-47, for Intl.Segmenter. */
  readonly language: string;
  readonly maxCharacters: number;
  /** Characters that a mark takes in the segment. */
  readonly markWidth: number;
  /** Several sentences to a piece, as many as the limit holds. */
  readonly joinSentences: boolean;
}

// A sentence end with more behind it. Where there is none, the slow segmenter has nothing to find.
const innerSentenceEnd = /[.!?…‽。｡！？．।॥؟۔։።៕][\p{Pe}\p{Pf}"'*_]*\s*[^\s.!?…。！？\p{Pe}\p{Pf}"'*_]/u;

/**
 * Cuts `part`, a piece of one line, into pieces that together are `part`, each of at most the limit, white space at their ends not
 * counted. A piece ends behind a sentence where one ends within the limit, else behind a clause, else behind a space, else between words,
 * else between grapheme clusters; never inside a cluster or a mark. A single cluster longer than the limit comes whole.
 */
export function cutPart(part: string, options: CutOptions): readonly string[] {
  const fits = widthOf(part, options.markWidth) <= options.maxCharacters;
  if (fits && (options.joinSentences || !innerSentenceEnd.test(part))) return [part];
  const boundaries = new Boundaries(part, options.language);
  const pieces: string[] = [];
  for (let start = 0; start < part.length; ) {
    const end = nextEnd(part, start, boundaries, options);
    pieces.push(part.slice(start, end));
    start = end;
  }
  return pieces;
}

function nextEnd(part: string, start: number, boundaries: Boundaries, { joinSentences, markWidth, maxCharacters }: CutOptions): number {
  const fits = (end: number): boolean => widthOf(part.slice(start, end).trim(), markWidth) <= maxCharacters;
  if (!joinSentences) {
    const sentences = boundaries.of("sentences");
    const sentenceEnd = sentences[firstBeyond(sentences, start)]!;
    if (fits(sentenceEnd)) return sentenceEnd;
  }
  for (const kind of boundaryKinds) {
    const end = lastFitting(boundaries.of(kind), start, fits);
    if (end !== null) return end;
  }
  const clusters = boundaries.of("clusters");
  return clusters[firstBeyond(clusters, start)]!;
}

/** The last boundary beyond `start` that fits, or null; looks no further than twice as far, so a long line costs no more per piece. */
function lastFitting(boundaries: readonly number[], start: number, fits: (end: number) => boolean): number | null {
  let low = firstBeyond(boundaries, start);
  if (low === boundaries.length || !fits(boundaries[low]!)) return null;
  let step = 1;
  while (low + step < boundaries.length && fits(boundaries[low + step]!)) {
    low += step;
    step *= 2;
  }
  let high = Math.min(low + step, boundaries.length);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(boundaries[middle]!)) low = middle;
    else high = middle;
  }
  return boundaries[low]!;
}

/** The index of the first element above `value`; the length where there is none. */
function firstBeyond(ascending: readonly number[], value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle]! > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

function widthOf(text: string, markWidth: number): number {
  let width = text.length;
  for (let at = text.indexOf(maskCharacter); at >= 0; at = text.indexOf(maskCharacter, at + 1)) width += markWidth - 1;
  return width;
}
