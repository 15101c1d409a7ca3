/** Texts from a seed, of what is hard to cut and to put together again. */

/** Pieces that must survive whatever a translator does to the words around them. */
export const protectedPieces: readonly string[] = [
  "https://example.org/a_(b)?q=1&r=%20#top",
  "www.example.com/page",
  "anna.b+c@mail.example.fi",
  "`x = [1]`",
  "``a ` b``",
  "{name}",
  "{{ user.name }}",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: of a shell
  "${HOME}",
  "%{count}",
  "{0:.2f}",
  "%s",
  "%-5.2f",
  "%(key)s",
  "%1$s",
  "$PATH",
  "%TEMP%",
  "<b>",
  "</b>",
  '<a href="/x y">',
  "<br/>",
  "&nbsp;",
  "&#x1F600;",
  "$a^2 + b$",
  "\\(x_1\\)",
  "\\alpha",
  "/usr/local/bin/node",
  "C:\\data\\in.csv",
  "snake_case_name",
  "list.append()",
  "@some_user",
  "report.pdf",
  "____",
  "[1]",
  "[ 2 ]",
  "［3］",
  "【4】",
  "[١]",
];

const words: readonly string[] = [
  ...[
    "plants",
    "need",
    "Water",
    "of",
    "3,000",
    "years.",
    "e.g.",
    "Mr.",
    "No!",
    "Why?",
    "it’s",
    "(or",
    "not)",
    "“quoted”",
    "co-op",
    "1990s;",
  ],
  ...[
    "naïve",
    "cafe\u0301",
    "n\u0303o\u0302",
    "Straße",
    "растения",
    "вода.",
    "植物需要水。",
    "为什么？",
    "水，",
    "โลกสวย",
    "हिन्दी",
    "क्षत्रिय।",
    "한국어",
    "각",
  ],
  ...[
    "שלום",
    "\u200fעולם\u200f",
    "\u202bمرحبا\u202c",
    "١٢٣",
    "👨‍👩‍👧‍👦",
    "👍🏽",
    "🇫🇮🇨🇿",
    "❤️",
    "a\u0300\u0301\u0302\u0303",
    "\u0301",
    "\u200d",
    "\u200b",
    "x".repeat(40),
  ],
  ...[
    "[",
    "]",
    "[12",
    "3]",
    "[0]",
    "[99999]",
    "(1)",
    "{1}",
    "<1>",
    "{",
    "}",
    "`",
    "``",
    "```",
    "~~~",
    "$",
    "%",
    "&",
    "<",
    ">",
    "\\",
    "|",
    "_",
    "*",
    "**bold**",
  ],
];
const breaks: readonly string[] = ["\n", "\r", "\r\n", "\n\n", "\n\r", "\u2028", "\u2029", "\u0085", "\v", "\f"];
const odd: readonly string[] = [
  "\0",
  "\ud800",
  "\udc00",
  "\ue000",
  "\uf8ff",
  "\ufeff",
  "\ufffe",
  "\u00a0",
  "\u3000",
  "\t",
  "  ",
  " \t ",
  "\x07",
  "\x1b[0m",
];
const lineStarts: readonly string[] = [
  "- ",
  "* ",
  "1. ",
  "2) ",
  "(3) ",
  "# ",
  "> ",
  ">> ",
  "• ",
  "一、",
  "① ",
  "- [ ] ",
  "| ",
  "    ",
  "\t",
  "\u3000\u3000",
];
const blocks: readonly string[] = [
  "```py\nprint('x [1]')\n```",
  "~~~\r\ncode\r\n~~~",
  "```\nnever closed",
  "<pre>\na b\n</pre>",
  "<!-- a\nb -->",
  "$$\nx\n$$",
  "def f(x):\n    return x",
  "| a | b |\n|---|---|",
];

/** @param next a number from 0 to below its argument */
export function randomText(next: (limit: number) => number): string {
  const pick = (list: readonly string[]): string => list[next(list.length)]!;
  let text = "";
  for (let left = next(40); left > 0; left--) {
    const kind = next(20);
    if (kind < 9) text += `${pick(words)} `;
    else if (kind < 11) text += pick(words);
    else if (kind < 14) text += `${pick(protectedPieces)} `;
    else if (kind < 15) text += pick(protectedPieces);
    else if (kind < 17) text += pick(breaks);
    else if (kind < 18) text += pick(odd);
    else if (kind < 19) text += pick(breaks) + pick(lineStarts);
    else text += `\n${pick(blocks)}\n`;
  }
  return text;
}
