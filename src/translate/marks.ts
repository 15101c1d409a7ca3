/**
 * Marks: what stands in a segment for a protected piece while it is being translated, `[1]`, `[2]`, ... counted in each segment.
 *
 * Why this form. A mark with letters (`xx1xx`, `__VAR_1__`, `<x id="1"/>`) reads like a word: translators were seen to translate,
 * transliterate, inflect or change the case of such marks, above all into other scripts, and rare brackets are unknown characters to the
 * vocabularies of trained models. A number in square brackets is what footnotes and references look like, which stand on both sides of
 * the parallel texts that translators are trained on, so they copy it, and it has no case and no translation. (No mark is safe: Post et
 * al. 2019, "An exploration of placeholding in neural machine translation"; hence the tolerance below and the list of lost pieces.) It
 * cannot clash with the text, because bracketed numbers of the text are protected pieces themselves. Counting in each segment keeps
 * segments that differ only in a protected piece alike, so they are translated once.
 */
import { toAsciiDigits } from "./digits.js";
import { markPattern } from "./protected-spans.js";

/** The mark of the n-th protected piece of a segment, from 1. */
export function markOf(n: number): string {
  return `[${n}]`;
}

export interface Unmasked {
  readonly text: string;
  /** Pieces whose mark was not found. */
  readonly lost: readonly string[];
}

const squareMark = new RegExp(markPattern, "gu");
const roundPattern = "[({<（｛〈《「『«]\\s*(\\p{Nd}{1,4})\\s*[)}>）｝〉》」』»]";
const roundMark = new RegExp(roundPattern, "u");
const anyMark = new RegExp(`${markPattern}|${roundPattern}`, "gu");

/**
 * Puts protected pieces back in place of their marks. Spaces inside a mark, brackets of another form and digits of another script do not
 * matter; round brackets and the like are taken for a mark that is missing otherwise, where the segment has none of its own. A mark that
 * comes twice is replaced twice; a number that is none of ours stays.
 *
 * @param segment what was translated
 * @param pieces of the segment, in the order of their marks
 */
export function unmask(translation: string, segment: string, pieces: readonly string[]): Unmasked {
  if (pieces.length === 0) return { text: translation, lost: [] };
  const found = new Set([...translation.matchAll(squareMark)].map(([, digits]) => numberOf(digits!)));
  const isMissing = (n: number): boolean => !found.has(n) && pieces[n - 1] !== undefined;
  const takesRound = pieces.some((_, i) => isMissing(i + 1)) && !roundMark.test(segment);
  const text = translation.replaceAll(takesRound ? anyMark : squareMark, (whole: string, square?: string, round?: string) => {
    // Without round marks the second group is absent and replaceAll passes the offset in its place.
    const isRound = square === undefined && takesRound;
    const n = numberOf(isRound ? round! : square!);
    return (isRound && !isMissing(n) ? undefined : pieces[n - 1]) ?? whole;
  });
  if (takesRound) for (const [, , round] of translation.matchAll(anyMark)) if (round !== undefined) found.add(numberOf(round));
  return { text, lost: pieces.filter((_, i) => !found.has(i + 1)) };
}

function numberOf(digits: string): number {
  return Number(toAsciiDigits(digits));
}
