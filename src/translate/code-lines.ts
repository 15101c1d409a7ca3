/**
 * Program code that nothing fences, of which instruction data are full: whole lines, told by their form. Prose that is taken for code is
 * left untranslated and code that is taken for prose is spoiled, so a line needs a form that prose does not have; lines that prose may
 * look like (comments, indented lines, `return x`) count as code only beside such a line.
 */

export interface LineRange {
  readonly start: number;
  /** Before the line break. */
  readonly end: number;
}

const strong: readonly RegExp[] = [
  /[{]$/,
  /^\}/,
  /^>>> /,
  /^#(?:include|define|ifdef|ifndef|endif|pragma)\b/,
  /^#!\//,
  /^@\w+(?:\.\w+)*\(.*\)$/,
  /^import\s+(?:static\s+)?[\w.*]+(?:\s+as\s+\w+)?;?$/,
  /^import\s+.+\s+from\s+['"].+['"];?$/,
  /^from\s+[\w.]+\s+import\s+[\w*(]/,
  /^(?:package|using|namespace)\s+[\w.:]+;$/,
  /^(?:async\s+)?def\s+\w+\s*\(.*\)\s*(?:->.+)?:/,
  /^class\s+\w+(?:\(.*\))?:$/,
  /^(?:export\s+)?(?:default\s+)?(?:async\s+)?function\b.*\(.*\)/,
  /^(?:public|private|protected|static|final|abstract)\s.*(?:[({}]|[(=].*;)$/,
  /^(?:const|let|var)\s+[\w{}[\], ]+=/,
  /^(?:unsigned\s+)?(?:auto|int|float|double|char|bool|boolean|String|string|void|long)\b(?:\[\]|<.*>|[*&])*\s+[*&]?\w+(?:\[.*\])?\s*(?:=|;$|\(.*\)\s*;?$)/,
  /^(?:if|while|for|switch|catch|else if)\s*\(.*[<>=!;&|(].*\)$/,
  /^(?:if|elif|while)\s.*(?:[=!<>]=|\s[<>%]\s|\w\(|\w\[).*:$/,
  /^for\s+[\w, ]+\s+in\s+\w+(?:\.\w+)*\(.*\):$/,
  /^(?:else|try|finally):$/,
  /^except\b.*:$/,
  /^(?:return|throw)\b.*;$/,
  /^if\s+__name__\s*==/,
  // a call as a statement: print(x), os.remove(path), foo.bar(1);
  /^(?:await\s+)?(?:[a-z_]\w*|\w+(?:\.\w+)+|\w+_\w+)\(.*\);?$/,
  /^(?:await\s+)?[\w.]+\(.*\);$/,
  /^SELECT\s.*(?:\*|,|\sFROM\s)/,
  /^(?:INSERT INTO|UPDATE|DELETE FROM|CREATE (?:TABLE|VIEW|DATABASE|INDEX)|ALTER TABLE|DROP TABLE)\s+[`"\w.]*[a-z_`"][`"\w.]*/,
  /^[a-z-]+\s*:\s*[^;]+;$/, // a property of a style sheet
  // any other statement that ends as in C, with a sign of code and no sentence in it
  /^(?!.*\p{L}{2,}\s+\p{L}{2,}\s+\p{L}{2,})(?=.*(?:=|\w[([]|->|::|<<|>>)).*(?<!&[#\w]+);$/u,
];

/** Left of it a name that no prose begins with, right of it no two words in a row. */
const assignment = /^(?:[a-z_]\w*|\w+(?:\.\w+)+|\w*_\w*)(?:\[[^\]]*\])?\s*(?:[-+*/%|&^]|\*\*|\/\/)?=(?![=>])\s*(.+)$/;
const quoted = /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g;
/** A sentence about code is no code. */
const quotedCode = /`[^`]*`/g;
const twoWords =
  /(?<!\p{L})(?!(?:new|await|not|and|or|in|is|if|else|lambda|for)\s)\p{L}{2,}\s+(?!(?:and|or|in|is|if|else|for)\s)\p{L}{2,}/u;

const weak =
  /^(?:\/\/|\/\*|\*(?:\s|\/|$)|#\s|--\s|[\])};,]+$|"[^"]*"\s*:|'[^']*'\s*:|(?:return|yield|raise|assert|del|throw|pass|break|continue|end|fi|done|FROM|WHERE|AND|OR|(?:INNER |LEFT |RIGHT )?JOIN|GROUP BY|ORDER BY|HAVING|VALUES|LIMIT|SET)\b)|[;,{(\\]$/;

type LineKind = "code" | "near-code" | "blank" | "prose";

function kindOf(line: string): LineKind {
  const content = line.trim();
  if (content === "") return "blank";
  if (isStrong(content)) return "code";
  return weak.test(content) || /^(?: {2,}|\t)/.test(line) ? "near-code" : "prose";
}

function isStrong(line: string): boolean {
  const content = line.replaceAll(quotedCode, "``");
  const value = assignment.exec(content)?.[1];
  if (value !== undefined) return !twoWords.test(value.replaceAll(quoted, '""'));
  return strong.some((pattern) => pattern.test(content));
}

/** Texts without any of these have no line of code; most texts. */
const mayHoldCode = /[;{}=()]|>>> |^[ \t]*(?:#!|import|else|try|finally|except|SELECT|UPDATE|DELETE|CREATE|DROP|ALTER|INSERT)\b/m;

/**
 * Runs of lines that are code: those of a form of their own, with the lines of weaker form that touch them and the blank lines between.
 *
 * @param from,to where to look, from the begin of a line to the end of one
 */
export function findCodeLines(text: string, from = 0, to = text.length): readonly LineRange[] {
  const part = text.slice(from, to);
  if (!mayHoldCode.test(part)) return [];
  const lines: { readonly kind: LineKind; readonly start: number; readonly end: number }[] = [];
  let start = from;
  for (const line of part.split(/(?<=\n)/)) {
    lines.push({ kind: kindOf(line), start, end: start + line.replace(/\r?\n$/, "").length });
    start += line.length;
  }
  const ranges: LineRange[] = [];
  for (let i = 0; i < lines.length; i++) {
    if (lines[i]!.kind !== "code") continue;
    let first = i;
    const floor = ranges.at(-1)?.end ?? -1;
    while (lines[first - 1]?.kind === "near-code" && lines[first - 1]!.start > floor) first--;
    let last = i;
    for (let next = i + 1; next < lines.length && lines[next]!.kind !== "prose"; next++) {
      // A blank line goes on with the code only where code follows it.
      if (lines[next]!.kind === "code" || (lines[next]!.kind === "near-code" && last === next - 1)) last = next;
      else if (lines[next]!.kind === "near-code") break;
    }
    ranges.push({ start: lines[first]!.start, end: lines[last]!.end });
    i = last;
  }
  return ranges;
}
