/** Decimal digits of all scripts. */

/**
 * The value of a decimal digit (Unicode's Nd), 0 to 9. Each script's ten digits stand in a row that begins at a multiple of 16, or 6
 * after one; the mathematical digits follow each other without a gap.
 */
export function digitValue(digit: string): number {
  const codePoint = digit.codePointAt(0)!;
  if (codePoint >= 0x1d7ce && codePoint <= 0x1d7ff) return (codePoint - 0x1d7ce) % 10;
  const column = codePoint & 0xf;
  const rowBeginsAtZero = /^\p{Nd}$/u.test(String.fromCodePoint(codePoint - column));
  return rowBeginsAtZero ? column : column - 6;
}

/** The text with every decimal digit as one of 0 to 9. */
export function toAsciiDigits(text: string): string {
  return text.replaceAll(/(?![0-9])\p{Nd}/gu, (digit) => String(digitValue(digit)));
}
