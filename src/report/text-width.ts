/** Text is laid out without its font: widths are estimates for DejaVu Sans, the widest of the fonts named. */

/** Mean width of its letters, in ems. */
const letterWidth = 0.6;

export function textWidth(text: string, fontSize: number): number {
  return [...text].length * letterWidth * fontSize;
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
