/** Whether the numbers of a text are in its translation, whatever its digits, separators and units of thousand. */
import { toAsciiDigits } from "./digits.js";

/**
 * A translation may write these out: style guides of most languages ask for words up to ten or twelve.
 */
const largestWrittenOut = 12;

// "1,234.5", "1.234,5", "1 234,5", "1'234.5", "12,34,567" (India); a space joins only groups of three behind one to three digits.
const number = /\d{1,3}(?:[ \u00a0\u202f\u2009]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'’٫٬]\d+)*/g;
const digitRun = /\d+/g;

/** Numbers of the source that the translation lacks, as the source has them, each once. */
export function findMissingNumbers(source: string, translation: string): readonly string[] {
  const wanted = new Set(toAsciiDigits(source).match(number) ?? []);
  if (wanted.size === 0) return [];
  const text = toAsciiDigits(translation);
  const runs = text.match(digitRun) ?? [];
  const present = new Set([...(text.match(number) ?? []), ...runs].map(significantDigits));
  return [...wanted].filter((value) => !isWrittenOut(value) && !isPresent(value, present) && !isInOtherNumerals(value, text));
}

/**
 * Digits without separators, leading zeros and trailing zeros: "1.5" million, "150" ten-thousands (150万) and "1,500,000" are one number,
 * and so are "1,234.5" and "1.234,5", which nothing in the text tells apart from "12345".
 */
function significantDigits(value: string): string {
  return value.replaceAll(/\D/g, "").replaceAll(/^0+|0+$/g, "") || "0";
}

function isWrittenOut(value: string): boolean {
  return /^\d+$/.test(value) && Number(value) <= largestWrittenOut;
}

function isPresent(value: string, present: ReadonlySet<string>): boolean {
  if (present.has(significantDigits(value))) return true;
  // "1,2,3" may be a list that the translation spaces otherwise, and "3.10" a time of day.
  const parts = value.match(digitRun)!;
  return parts.length > 1 && parts.every((part) => present.has(significantDigits(part)));
}

/** Centuries, kings and chapters in Roman numerals, small numbers in Chinese ones. */
function isInOtherNumerals(value: string, text: string): boolean {
  if (!/^\d{1,2}$/.test(value)) return false;
  const n = Number(value);
  return new RegExp(`(?<![\\p{L}\\p{N}])${romanNumeral(n)}(?![\\p{L}\\p{N}])`, "u").test(text) || text.includes(chineseNumeral(n));
}

function romanNumeral(n: number): string {
  const tens = ["", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC"];
  const ones = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"];
  return tens[Math.floor(n / 10)]! + ones[n % 10]!;
}

function chineseNumeral(n: number): string {
  const digits = ["", "一", "二", "三", "四", "五", "六", "七", "八", "九"];
  const tens = Math.floor(n / 10);
  return `${tens > 1 ? digits[tens] : ""}${tens > 0 ? "十" : ""}${digits[n % 10]}`;
}
