/**
 * What a translation must not change, found by its form: code, mark-up, addresses, placeholders. Numbers are not among it: their place
 * and the endings of the words around them are grammar, so they stay in the sentence and `quality.ts` checks that they are still there.
 */

import { findCodeLines } from "./code-lines.js";

export interface ProtectedSpan {
  readonly start: number;
  readonly end: number;
}

/** Inside a class: what ends a line for some program or other (Python's `splitlines` has the longest list). */
export const lineBreakCharacters = "\\n\\v\\f\\r\\x1c-\\x1e\\x85\\u2028\\u2029";

/**
 * A mark such as `[1]`, also as translations come to write it: with spaces, in full-width or other brackets, in digits of another script.
 * The digits are group 1.
 */
export const markPattern = "[\\[［【〔⟦]\\s*(\\p{Nd}{1,4})\\s*[\\]］】〕⟧]";

const inLine = `[^${lineBreakCharacters}]`;

// Letters of an internationalised address; not those of scripts that set no space between an address and the next word.
const addressLetter =
  "(?![\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Hangul}\\p{Script=Thai}])[\\p{L}\\p{M}\\p{Nd}]";
const addressGroup = `\\((?:[\\w\\-.~:/?#@!$&'*+,;=%]|${addressLetter})*\\)`;
// Punctuation and a closing bracket at the end belong to the sentence.
const addressRest = `(?:[\\w\\-.~:/?#@!$&'*+,;=%\\[\\]]|${addressLetter}|${addressGroup})*(?:[\\w/#=&%~+\\-@$]|${addressLetter}|${addressGroup})`;

const topLevelDomains = "com|org|net|edu|gov|mil|info|io|dev|app|ai|co\\.uk|ac\\.uk|de|fr|es|ru|cn|jp|fi|cz|bg|eu";
const fileEndings =
  "py|js|ts|jsx|tsx|java|cpp|html?|css|scss|json|ya?ml|toml|xml|csv|tsv|txt|md|pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|svg|mp[34]|zip|tar|gz|sh|sql|exe|ipynb";
const tagAttribute =
  "[\\w:@.-]+\\s*=\\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\\s\"'<>=`]+)|checked|disabled|selected|required|readonly|multiple|autofocus|async|defer|controls|hidden";

/** Tried in this order at each place; the comments say what each must not take. */
const patterns: readonly string[] = [
  // A fenced block, its list marker or quotation mark included; one that is never closed goes to the end, as in CommonMark.
  "^[ \\t>]*(?:(?:[-*+]|\\d{1,3}[.)])[ \\t]+)?(?<fence>`{3,}|~{3,})[^\\n`]*$[\\s\\S]*?(?:^[ \\t>]*\\k<fence>[`~]*[ \\t]*$|(?![\\s\\S]))",
  // Three and more backticks may open in the middle of a line and close in another one.
  "(?<!`)(?<block>`{3,})(?!`)[\\s\\S]+?(?<!`)\\k<block>(?!`)",
  `(?<!\`)(?<ticks>\`{1,2})(?!\`)${inLine}+?(?<!\`)\\k<ticks>(?!\`)`,
  "<!--[\\s\\S]{0,20000}?-->",
  "<(?<raw>script|style|pre|code|SCRIPT|STYLE|PRE|CODE)\\b[^<>]*>[\\s\\S]{0,20000}?</\\k<raw>\\s*>",
  "<!DOCTYPE[^<>]*>",
  "<\\?[\\s\\S]{0,20000}?\\?>",
  // Not "a <b and c> d" nor "<your name>", which are for the reader.
  `</?[A-Za-z][\\w:.-]*(?:\\s+(?:${tagAttribute}))*\\s*/?>`,
  "\\$\\$[\\s\\S]{1,2000}?\\$\\$",
  "\\\\\\([\\s\\S]{1,2000}?\\\\\\)",
  "\\\\\\[[\\s\\S]{1,2000}?\\\\\\]",
  // TeX between dollars by Pandoc's rule, and not from a digit on: "$5 and $10" are prices.
  `(?<![\\w$\\\\])\\$(?![\\s\\d$])(?:(?!\\$)${inLine}){0,200}?(?<![\\s\\\\])\\$(?![\\w$])`,
  `(?<![\\p{L}\\p{N}])(?:https?|ftps?|file|git|ssh|wss?)://${addressRest}`,
  `(?<![\\p{L}\\p{N}])(?:mailto:|www\\.)${addressRest}`,
  "(?<![\\w.+-])[\\w.+-]+@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)*\\.[A-Za-z]{2,}",
  `(?<![\\w.@-])(?:[A-Za-z0-9][A-Za-z0-9-]*\\.)+(?:${topLevelDomains})(?![\\w-])(?:[/?#](?:${addressRest})?)?`,
  `(?<![\\w.-])[\\w-]+(?:\\.[\\w-]+)*\\.(?:${fileEndings})(?![\\w-])`,
  `\\{\\{(?:(?![{}])${inLine}){0,200}\\}\\}`,
  `\\{%(?:(?![{}])${inLine}){0,200}%\\}`,
  // {name}, { name }, ${name}, %{name}, #{name}; not "{a phrase of several words}".
  "[$%#@]?\\{ ?[^{}\\s]{0,80} ?\\}",
  // printf and Python: %s, %-5d, %.2f, %1$s, %(name)s; not "50%s" nor "% of".
  "(?<![\\p{N}\\p{L}%])%(?:\\d+\\$|\\(\\w+\\))?[-+0#]*\\d*(?:\\.\\d+)?(?:hh|h|ll|l|L|z|j|t)?[sdifuxXoeEgGcpn@](?![\\p{L}\\p{N}])",
  "%[A-Za-z_]\\w*%",
  "(?<![\\w$])\\$[A-Za-z_]\\w*",
  "&(?:#\\d{1,7}|#x[\\dA-Fa-f]{1,6}|[A-Za-z]{2,10}\\d?);",
  "\\\\[nrt](?![a-z])",
  `\\\\[A-Za-z]+(?:\\{(?:(?![{}])${inLine})*\\})*`,
  '(?<![\\w:])[A-Za-z]:\\\\[^\\s"<>|]+',
  "(?<![\\w/.:])(?:~|\\.{1,2})?/(?:[\\w.-]+/)+[\\w.-]*\\w",
  "(?<![\\w@])@[A-Za-z_]\\w+",
  "(?<!\\w)[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+(?!\\w)",
  "(?<![\\w.])[A-Za-z_]\\w*(?:\\.[A-Za-z_]\\w*)*\\(\\)",
  "_{2,}", // a blank to fill in
  markPattern.replace("(", "(?:"), // a mark of the text's own must not be taken for one of ours
  "\\p{Co}+", // private use: one of them stands for a mark while a line is being cut
];

const protectedSpan = new RegExp(patterns.join("|"), "gmu");

/** Without one of these there is nothing to protect; most texts have none and are done with here. */
const mayHoldSpan = /[`<{$%@\\&_[［【〔⟦]|~~~|\/|\(\)|www\.|\.[A-Za-z]|\p{Co}/u;

/** The protected spans of a text, in order, none overlapping. A span that contains a line break stands on its own; others are parts of a line. */
export function findProtectedSpans(text: string): readonly ProtectedSpan[] {
  const spans = mayHoldSpan.test(text) ? findByPattern(text) : [];
  const code = findCodeOutside(text, spans);
  if (code.length === 0) return spans;
  const isInCode = (span: ProtectedSpan): boolean => code.some(({ start, end }) => span.start >= start && span.end <= end);
  return [...spans.filter((span) => !isInCode(span)), ...code].sort((a, b) => a.start - b.start);
}

function findByPattern(text: string): ProtectedSpan[] {
  const spans: ProtectedSpan[] = [];
  for (const match of text.matchAll(protectedSpan)) {
    if (match[0] !== "") spans.push({ start: match.index, end: match.index + match[0].length });
  }
  return spans;
}

/** Lines of code between the spans that go over several lines; on the lines where such a span begins or ends nothing is looked for. */
function findCodeOutside(text: string, spans: readonly ProtectedSpan[]): readonly ProtectedSpan[] {
  const code: ProtectedSpan[] = [];
  let from = 0;
  for (const { start, end } of spans) {
    if (!text.slice(start, end).includes("\n")) continue;
    const lineStart = text.lastIndexOf("\n", start - 1) + 1;
    if (lineStart > from) code.push(...findCodeLines(text, from, lineStart));
    const lineEnd = text.indexOf("\n", end);
    from = lineEnd < 0 ? text.length : lineEnd + 1;
  }
  if (from < text.length) code.push(...findCodeLines(text, from));
  return code;
}
