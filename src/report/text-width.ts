/** Text is laid out without its font: widths are estimates for DejaVu Sans, the widest of the fonts named. */

/** Mean width of its letters, in ems. */
const letterWidth = 0.6;

/** What sizes such as 560M and 1.1B are made of, which stand close to each other on axes. */
const knownWidths: ReadonlyMap<string, number> = new Map(
  Object.entries({ ".": 0.32, M: 0.87, B: 0.69, K: 0.66, ...Object.fromEntries([..."0123456789"].map((digit) => [digit, 0.64])) }),
);

export function textWidth(text: string, fontSize: number): number {
  return [...text].reduce((sum, letter) => sum + (knownWidths.get(letter) ?? letterWidth), 0) * fontSize;
}

/** Lines no wider than `width`, where words allow. */
export function wrapText(text: string, width: number, fontSize: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && textWidth(`${line} ${word}`, fontSize) <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** The text, or its start and an ellipsis where it is too wide. */
export function shorten(text: string, width: number, fontSize: number): string {
  const letters = [...text];
  const most = Math.floor(width / (letterWidth * fontSize));
  return letters.length <= most ? text : `${letters.slice(0, most - 1).join("")}…`;
}
