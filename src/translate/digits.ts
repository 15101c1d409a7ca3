/** Decimal digits of all scripts. */

/** The value of a decimal digit (Unicode's Nd), 0 to 9: digits stand in order, each script's ten beside each other, so the place in a run tells it. */
export function digitValue(digit: string): number {
  const codePoint = digit.codePointAt(0)!;
  let first = codePoint;
  while (isDigit(first - 1)) first--;
  return (codePoint - first) % 10;
}

function isDigit(codePoint: number): boolean {
  return /^\p{Nd}$/u.test(String.fromCodePoint(codePoint));
}

/** The text with every decimal digit as one of 0 to 9. */
export function toAsciiDigits(text: string): string {
  return text.replaceAll(/(?![0-9])\p{Nd}/gu, (digit) => String(digitValue(digit)));
}
