/**
 * Faults of translations that can be seen without knowing the language: what `translate` reports per record, and what its `--drop` and
 * `--retry` act on. Each check looks at one field; code, addresses and other protected pieces are left out where only prose counts.
 */
import { undecided } from "../language-id/index.js";
import { priorRatio, ratioDeviation, type TextLengths, type UsualRatio, usualRatio } from "./length-ratio.js";
import { findMissingNumbers } from "./number-check.js";
import { findProtectedSpans } from "./protected-spans.js";
import { findRepetition } from "./repetition.js";

export const qualityFlags = [
  "empty", // nothing for a text
  "wrong-language",
  "source-copy",
  "length-ratio", // far longer or shorter than the pair's translations are
  "repetition",
  "lost-piece", // code, an address, a placeholder is missing
  "missing-number",
] as const;
export type QualityFlag = (typeof qualityFlags)[number];

/** Texts by field name: `instruction`, `input`, `output`. */
export type TextFields = Readonly<Record<string, string>>;

export interface TranslatedRecord {
  readonly id: string;
  readonly source: TextFields;
  /** The same fields. */
  readonly translation: TextFields;
  /** What `TextPlan.assemble` reported for its fields. */
  readonly lost: readonly string[];
}

export interface QualityFinding {
  readonly flag: QualityFlag;
  /** Null: one of the record's fields. */
  readonly field: string | null;
  /** What is wrong, for people. */
  readonly detail: string;
}

export interface FlaggedRecord {
  /** Among the records given, from 0. */
  readonly index: number;
  readonly id: string;
  /** In the order of {@link qualityFlags}, each once. */
  readonly flags: readonly QualityFlag[];
  readonly findings: readonly QualityFinding[];
}

export interface QualityOptions {
  /** Comparable codes, as `identify` gives them. */
  readonly sourceLanguage: string;
  readonly targetLanguage: string;
  /**
   * The language a text is written in, or `undecided`. Let it choose among the languages of the run and the source's: lid.176.ftz takes
   * every other Norwegian text for Danish when it may.
   */
  readonly identify: (text: string) => string;
}

/**
 * The records that something is wrong with, in their order. All records of a language belong in one call: what length is usual is
 * learned from them.
 */
export function flagRecords(records: readonly TranslatedRecord[], options: QualityOptions): readonly FlaggedRecord[] {
  const usual = usualRatioOf(records, options);
  return records.flatMap((record, index) => {
    const findings = checkRecord(record.lost, fieldsOf(record), usual, options);
    if (findings.length === 0) return [];
    const found = new Set(findings.map(({ flag }) => flag));
    return [{ index, id: record.id, flags: qualityFlags.filter((flag) => found.has(flag)), findings }];
  });
}

/** Shorter prose has no usual length. */
const fewestProseCharacters = 20;
/** For normal data once in two million; the tails of real ratios are heavier. */
const maxDeviation = 5;
/** Deviations below this factor are left alone even in a run of very even lengths. */
const leastFactor = 1.6;

interface Pair {
  readonly source: string;
  readonly translation: string;
}

interface FieldPair extends Pair {
  readonly field: string;
  /** The same without protected pieces. */
  readonly prose: Pair;
}

function fieldsOf({ source: sources, translation: translations }: TranslatedRecord): readonly FieldPair[] {
  return Object.entries(sources).map(([field, source]) => {
    const translation = translations[field] ?? "";
    return { field, source, translation, prose: { source: proseOf(source), translation: proseOf(translation) } };
  });
}

function checkRecord(lost: readonly string[], fields: readonly FieldPair[], usual: UsualRatio, options: QualityOptions): QualityFinding[] {
  const findings: QualityFinding[] = [];
  const natural: FieldPair[] = [];
  for (const field of fields) {
    const ofField = checkField(field, usual, options);
    findings.push(...ofField);
    const isJudged = ofField.some(({ flag }) => flag === "empty" || flag === "source-copy");
    if (!isJudged && letter.test(field.prose.source)) natural.push(field);
  }
  findings.push(...findWrongLanguages(natural, options));
  const reported = new Set(findings.filter(({ flag }) => flag === "lost-piece").map(({ detail }) => detail));
  const more = new Set(lost.map(lostDetail).filter((detail) => !reported.has(detail)));
  for (const detail of more) findings.push({ flag: "lost-piece", field: null, detail });
  return findings;
}

const letter = /\p{L}/u;

function checkField({ field, source, translation, prose }: FieldPair, usual: UsualRatio, options: QualityOptions): QualityFinding[] {
  if (translation.trim() === "") {
    return source.trim() === "" ? [] : [{ flag: "empty", field, detail: `nothing for ${source.length} characters` }];
  }
  const findings: QualityFinding[] = [];
  const add = (flag: QualityFlag, detail: string | null): void => {
    if (detail !== null) findings.push({ flag, field, detail });
  };
  for (const piece of findLostPieces(source, translation)) add("lost-piece", lostDetail(piece));
  if (!letter.test(prose.source)) return findings;
  if (options.sourceLanguage !== options.targetLanguage) add("source-copy", findCopy(prose));
  add("length-ratio", findLengthFault(prose, usual));
  add("repetition", findRepetition(prose.source, prose.translation));
  const missing = findMissingNumbers(prose.source, translation);
  add("missing-number", missing.length > 0 ? missing.join(", ") : null);
  return findings;
}

/** The text without protected pieces, runs of white space but for line breaks as one space. */
function proseOf(text: string): string {
  let prose = "";
  let from = 0;
  for (const { start, end } of findProtectedSpans(text)) {
    prose += `${text.slice(from, start)} `;
    from = end;
  }
  return (prose + text.slice(from)).replaceAll(/[^\S\n]{2,}|[^\S\n ]/g, " ").trim();
}

/** The texts are looked at one record at a time, here and when they are checked: those of a whole language would fill 200 MB. */
function usualRatioOf(records: readonly TranslatedRecord[], { sourceLanguage, targetLanguage }: QualityOptions): UsualRatio {
  const texts: TextLengths[] = [];
  for (const record of records) {
    for (const { prose } of fieldsOf(record)) {
      if (prose.source.length >= fewestProseCharacters && prose.translation !== "") texts.push(lengthsOf(prose));
    }
  }
  return usualRatio(texts, priorRatio(sourceLanguage, targetLanguage));
}

function lengthsOf({ source, translation }: Pair): TextLengths {
  return { source: source.length, translation: translation.length };
}

function findLengthFault(prose: Pair, usual: UsualRatio): string | null {
  if (prose.source.length < fewestProseCharacters) return null;
  const lengths = lengthsOf(prose);
  const factor = lengths.translation / (lengths.source * Math.exp(usual.center));
  const isFar = Math.max(factor, 1 / factor) >= leastFactor && Math.abs(ratioDeviation(lengths, usual)) >= maxDeviation;
  return isFar ? `${factor.toFixed(2)} times as long as usual` : null;
}

/**
 * Fields long enough are judged each by itself, the others together, as far as that is enough text: of single texts below 60 characters
 * lid.176.ftz takes 2% for another language of the run (above all Bulgarian for Russian), of longer ones 0.1%.
 */
function findWrongLanguages(
  fields: readonly FieldPair[],
  { identify, sourceLanguage, targetLanguage }: QualityOptions,
): readonly QualityFinding[] {
  const isLong = ({ prose }: FieldPair): boolean => weightOf(prose.translation) >= fewestLanguageCharacters;
  const short = fields.filter((field) => !isLong(field)).map(({ prose }) => prose);
  const together: Pair = {
    source: short.map(({ source }) => source).join("\n"),
    translation: short.map(({ translation }) => translation).join("\n"),
  };
  const judged: { readonly field: string | null; readonly prose: Pair }[] = fields.filter(isLong);
  if (weightOf(together.translation) >= fewestLanguageCharacters) judged.push({ field: null, prose: together });
  return judged.flatMap(({ field, prose }) => {
    const found = identify(prose.translation);
    if (found === undecided || found === targetLanguage) return [];
    // A text about another language ("Translate into French: ...") may hold as much of it as its source does.
    const ofSource = identify(prose.source);
    if (ofSource === found && ofSource !== sourceLanguage) return [];
    return [{ flag: "wrong-language" as const, field, detail: `${found}, not ${targetLanguage}` }];
  });
}

const fewestLanguageCharacters = 60;
const unspaced = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/gu;

/** Characters, one of a script without an alphabet as three. */
function weightOf(text: string): number {
  return text.length + 2 * (text.match(unspaced)?.length ?? 0);
}

/** Words that are no names: in a script without capital letters each counts. */
const commonWord = /(?<![\p{L}\p{M}])[\p{Ll}\p{Lo}][\p{L}\p{M}]*/gu;
const fewestCommonWords = 3;
const maxCopiedShare = 0.5;

/** Lines of prose are compared, whatever their case, since a provider that gives up on one may translate the others. */
function findCopy({ source, translation }: Pair): string | null {
  const lines = linesOf(source).filter(
    (line) => line.length >= fewestProseCharacters && (line.match(commonWord)?.length ?? 0) >= fewestCommonWords,
  );
  if (lines.length === 0) return null;
  const fold = (line: string): string => line.trim().toLowerCase();
  const translated = new Set(linesOf(translation).map(fold));
  const total = lines.reduce((sum, { length }) => sum + length, 0);
  const copied = lines.filter((line) => translated.has(fold(line))).reduce((sum, { length }) => sum + length, 0);
  return copied / total > maxCopiedShare ? `${Math.round((100 * copied) / total)}% of the source's lines` : null;
}

function linesOf(text: string): readonly string[] {
  return text.split("\n");
}

/** Protected pieces of the source that the translation has less often, each once; also for translations that were made elsewhere. */
function findLostPieces(source: string, translation: string): readonly string[] {
  const counts = new Map<string, number>();
  for (const { start, end } of findProtectedSpans(source)) {
    const piece = source.slice(start, end).trim();
    counts.set(piece, (counts.get(piece) ?? 0) + 1);
  }
  return [...counts].filter(([piece, count]) => translation.split(piece).length - 1 < count).map(([piece]) => piece);
}

const longestPieceShown = 60;

function lostDetail(piece: string): string {
  const shown = piece.trim();
  return shown.length > longestPieceShown ? `${shown.slice(0, longestPieceShown)}...` : shown;
}

export interface QualityExample {
  readonly flag: QualityFlag;
  readonly id: string;
  readonly field: string | null;
  readonly detail: string;
  /** Of the field; of the record's longest field where the finding names none. */
  readonly source: string;
  readonly translation: string;
}

export interface QualitySummary {
  readonly records: number;
  /** Records with any flag. */
  readonly flagged: number;
  /** Records per flag. */
  readonly flags: Readonly<Record<QualityFlag, number>>;
  readonly examples: readonly QualityExample[];
}

/** @param examplesPerFlag spread evenly over the flagged records; default 3 */
export function summariseQuality(
  records: readonly TranslatedRecord[],
  flagged: readonly FlaggedRecord[],
  { examplesPerFlag = 3 }: { readonly examplesPerFlag?: number } = {},
): QualitySummary {
  const of = (flag: QualityFlag): readonly FlaggedRecord[] => flagged.filter(({ flags }) => flags.includes(flag));
  return {
    records: records.length,
    flagged: flagged.length,
    flags: Object.fromEntries(qualityFlags.map((flag) => [flag, of(flag).length])) as Record<QualityFlag, number>,
    examples: qualityFlags.flatMap((flag) =>
      spread(of(flag), examplesPerFlag).map(({ index, findings }) =>
        exampleOf(records[index]!, findings.find((finding) => finding.flag === flag)!),
      ),
    ),
  };
}

function spread<T>(items: readonly T[], count: number): readonly T[] {
  const n = Math.min(count, items.length);
  return Array.from({ length: n }, (_, i) => items[Math.floor((i * items.length) / n)]!);
}

function exampleOf({ id, source, translation }: TranslatedRecord, { flag, field, detail }: QualityFinding): QualityExample {
  const shown = field ?? Object.keys(source).reduce((a, b) => (source[b]!.length > source[a]!.length ? b : a));
  return { flag, id, field, detail, source: source[shown] ?? "", translation: translation[shown] ?? "" };
}
