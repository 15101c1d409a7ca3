/**
 * What of a text is translated, and how the translations become a text again.
 *
 * Kept as they are, outside of what is translated: code blocks, white space at both ends of a segment, line breaks, list markers, mark-up
 * at both ends, tabs and the bars of tables, control characters, and every line without a letter. Protected pieces inside a sentence
 * (`protected-spans.ts`) are replaced by marks (`marks.ts`), so that the sentence keeps its grammar; numbers stay as they are.
 */
import { PolypacaError } from "../errors.js";
import { continuesCluster } from "./boundaries.js";
import { type CutOptions, cutPart, maskCharacter } from "./cut-part.js";
import { markOf, unmask } from "./marks.js";
import { findProtectedSpans, lineBreakCharacters } from "./protected-spans.js";

export interface TextPlan {
  /** What a provider is asked to translate, in order; none is empty or without a letter, none has a line break, none is longer than the limit. */
  readonly segments: readonly string[];
  /**
   * Puts translations (as many as segments, same order) back between what was not translated. With the segments themselves it gives the
   * text byte for byte. White space around a translation and line breaks inside it are not taken over: the text's own stand.
   *
   * @throws PolypacaError `INVALID_ARGUMENT` for another number of translations
   */
  assemble(translations: readonly string[]): AssembledText;
}

export interface AssembledText {
  readonly text: string;
  /** Protected pieces that a translation dropped or changed. */
  readonly lost: readonly string[];
}

export interface PlanTextOptions {
  /** Of the source, BCP-47 or ISO 639 code, for Intl.Segmenter. */
  readonly language: string;
  /** Longest segment in UTF-16 units (no fewer than its characters), marks included; {@link minMaxCharacters} or more. */
  readonly maxCharacters: number;
  /**
   * Keep neighbouring sentences of a line in one segment, as many as the limit holds; default true. Language models and services that cut
   * sentences themselves translate better with what stands around a sentence, and take fewer requests. A program that was trained on
   * single sentences (Marian, CTranslate2) is better off with false.
   */
  readonly joinSentences?: boolean;
}

/** A limit that always holds a word of common length or a mark. */
export const minMaxCharacters = 16;

/**
 * Plans the translation of a text.
 *
 * @throws PolypacaError `INVALID_ARGUMENT` for a limit below {@link minMaxCharacters}
 */
export function planText(text: string, options: PlanTextOptions): TextPlan {
  if (!(options.maxCharacters >= minMaxCharacters)) {
    throw new PolypacaError("INVALID_ARGUMENT", `maxCharacters is ${options.maxCharacters}; ${minMaxCharacters} or more was expected.`);
  }
  const planner = new Planner(options);
  let from = 0;
  let masked = "";
  let pieces: string[] = [];
  for (const { start, end } of findProtectedSpans(text)) {
    const piece = text.slice(start, end);
    masked += text.slice(from, start);
    from = end;
    if (lineBreak.test(piece)) {
      planner.addLines(masked, pieces);
      planner.keep(piece);
      masked = "";
      pieces = [];
    } else {
      masked += maskCharacter;
      pieces.push(piece);
    }
  }
  planner.addLines(masked + text.slice(from), pieces);
  return planner.plan();
}

const lineBreak = new RegExp(`[${lineBreakCharacters}]`, "u");
const lineBreaks = new RegExp(`[${lineBreakCharacters}]+`, "gu");
const letter = /\p{L}/u;

// Behind each of these a line goes on with something else: a cell of a table, or text after what no translator should see (control
// characters, halves of surrogate pairs, which UTF-8 cannot hold). What combines with one of them stays with it.
const separators =
  /(?:(?:\p{Cc}|\p{Cs}|\p{Noncharacter_Code_Point}|(?<=^|\s|\|)\||\|(?=\s|\||$))[\p{M}\p{Grapheme_Extend}\p{Emoji_Modifier}\u200d]*)+/gu;

// Quotation marks of mail, a heading, a bullet, a box to tick, then "1.", "(1)", "a)", "IV.", "1、", "①".
const lineStart =
  /^\s*(?:>\s*)*(?:#{1,6}\s+)?(?:[-*+•◦▪‣·●○■□–—]\s+)?(?:\[[ xX]?\]\s+)?(?:\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.)]\s+|\(?\d{1,3}[.)](?=\p{L})|[（(]?[\d一二三四五六七八九十]{1,3}[）、．]\s*|[\u2460-\u249b]\s*)?/u;

interface Segment {
  readonly text: string;
  /** In the order of their marks. */
  readonly pieces: readonly string[];
}

/** Gathers a text from left to right: what is kept, and what is translated. */
class Planner {
  readonly #options: PlanTextOptions;
  /** Kept text, or the index of a segment. */
  readonly #parts: (string | number)[] = [];
  readonly #segments: Segment[] = [];
  /** The protected pieces of what is being added, each taken when its mask character is passed. */
  #pieces: readonly string[] = [];
  #taken = 0;

  constructor(options: PlanTextOptions) {
    this.#options = options;
  }

  plan(): TextPlan {
    const [parts, segments] = [this.#parts, this.#segments];
    return { segments: segments.map(({ text }) => text), assemble: (translations) => assemble(parts, segments, translations) };
  }

  keep(text: string): void {
    if (text === "") return;
    const last = this.#parts.length - 1;
    const before = this.#parts[last];
    if (typeof before === "string") this.#parts[last] = before + text;
    else this.#parts.push(text);
  }

  /** @param masked any number of lines, with a mask character for each of `pieces` */
  addLines(masked: string, pieces: readonly string[]): void {
    this.#pieces = pieces;
    this.#taken = 0;
    let from = 0;
    for (const { index, 0: breaks } of masked.matchAll(lineBreaks)) {
      this.#addLine(masked.slice(from, index));
      this.keep(breaks);
      from = index + breaks.length;
    }
    this.#addLine(masked.slice(from));
  }

  #addLine(line: string): void {
    if (!letter.test(line)) {
      this.#keepMasked(line);
      return;
    }
    const start = lineStart.exec(line)![0].length;
    const begin = continuesCluster(line, start) ? 0 : start;
    this.#keepMasked(line.slice(0, begin));
    const rest = line.slice(begin);
    let from = 0;
    for (const { index, 0: separator } of rest.matchAll(separators)) {
      this.#addPart(rest.slice(from, index));
      this.#keepMasked(separator);
      from = index + separator.length;
    }
    this.#addPart(rest.slice(from));
  }

  /** @param part of a line, between two separators */
  #addPart(part: string): void {
    if (!letter.test(part)) {
      this.#keepMasked(part);
      return;
    }
    const { start, end } = this.#withoutEdges(part);
    this.#keepMasked(part.slice(0, start));
    const core = part.slice(start, end);
    const { language, maxCharacters, joinSentences = true } = this.#options;
    const options: CutOptions = { language, maxCharacters, joinSentences, markWidth: markOf(countMasks(core)).length };
    for (const piece of cutPart(core, options)) this.#addPiece(piece);
    this.#keepMasked(part.slice(end));
  }

  /** White space and mark-up at both ends are no part of the sentence. */
  #withoutEdges(part: string): { readonly start: number; readonly end: number } {
    let [start, end] = [0, part.length];
    let [first, last] = [this.#taken, this.#taken + countMasks(part) - 1];
    for (; start < end; start++) {
      if (part[start] === maskCharacter && isMarkup(this.#pieces[first]!)) first++;
      else if (!isSpace(part[start]!)) break;
    }
    for (; end > start; end--) {
      if (part[end - 1] === maskCharacter && isMarkup(this.#pieces[last]!)) last--;
      else if (!isSpace(part[end - 1]!)) break;
    }
    return { start: start > 0 && continuesCluster(part, start) ? start - 1 : start, end };
  }

  #addPiece(piece: string): void {
    const { start, end } = trimmedRange(piece);
    this.#keepMasked(piece.slice(0, start));
    const masked = piece.slice(start, end);
    const first = this.#taken;
    let n = 0;
    const text = masked.replaceAll(maskCharacter, () => markOf(++n));
    if (letter.test(text) && text.length <= this.#options.maxCharacters) {
      this.#parts.push(this.#segments.length);
      this.#segments.push({ text, pieces: this.#pieces.slice(first, first + n) });
      this.#taken += n;
    } else {
      this.#keepMasked(masked);
    }
    this.#keepMasked(piece.slice(end));
  }

  #keepMasked(masked: string): void {
    this.keep(masked.replaceAll(maskCharacter, () => this.#pieces[this.#taken++]!));
  }
}

function countMasks(masked: string): number {
  let count = 0;
  for (let at = masked.indexOf(maskCharacter); at >= 0; at = masked.indexOf(maskCharacter, at + 1)) count++;
  return count;
}

function isMarkup(piece: string): boolean {
  return piece.startsWith("<");
}

/** JavaScript's white space, which has the byte order mark too, and the space of no width. */
function isSpace(character: string): boolean {
  return character === "\u200b" || character.trim() === "";
}

/** Without the white space at both ends, but never between a space and a mark that combines with it. */
function trimmedRange(text: string): { readonly start: number; readonly end: number } {
  let [start, end] = [0, text.length];
  while (start < end && isSpace(text[start]!)) start++;
  while (end > start && isSpace(text[end - 1]!)) end--;
  return { start: start > 0 && continuesCluster(text, start) ? start - 1 : start, end };
}

const innerBreaks = new RegExp(`[ \\t]*[${lineBreakCharacters}]+[ \\t]*`, "gu");

function assemble(parts: readonly (string | number)[], segments: readonly Segment[], translations: readonly string[]): AssembledText {
  if (translations.length !== segments.length) {
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `${translations.length} translations for ${segments.length} segments; one for each was expected.`,
    );
  }
  const lost: string[] = [];
  const texts = segments.map((segment, i) => {
    const { start, end } = trimmedRange(translations[i]!);
    const restored = unmask(translations[i]!.slice(start, end).replaceAll(innerBreaks, " "), segment.text, segment.pieces);
    lost.push(...restored.lost);
    return restored.text;
  });
  let text = "";
  parts.forEach((part, i) => {
    if (typeof part === "string") {
      text += part;
      return;
    }
    const joins = typeof parts[i - 1] === "number"; // the segment before was cut off here without a space
    const isTranslated = joins && [part - 1, part].some((n) => translations[n] !== segments[n]!.text);
    if (isTranslated && wantsSpace(segments[part - 1]!.text, text, texts[part]!)) text += " ";
    text += texts[part]!;
  });
  return { text, lost };
}

// Scripts that set no space between sentences, and their punctuation.
const unspacedEnd =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u3000-\u303f\uff00-\uffef][”’"']*$/u;
const unspacedStart =
  /^[“‘"']*[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\u3000-\u303f\uff00-\uffef]/u;

/** Chinese sentences were cut without a space between them; their translations into German need one. */
function wantsSpace(source: string, before: string, after: string): boolean {
  return unspacedEnd.test(source) && before !== "" && after !== "" && !unspacedEnd.test(before.slice(-4)) && !unspacedStart.test(after);
}
