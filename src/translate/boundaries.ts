/** Where a line may be cut, from the best places to the worst. */

const clusterExtension = /[\p{M}\p{Grapheme_Extend}\p{Emoji_Modifier}\u200d]/uy;

/** Whether the character at `index` belongs to the grapheme cluster of the one before it. */
export function continuesCluster(text: string, index: number): boolean {
  clusterExtension.lastIndex = index;
  return clusterExtension.test(text);
}

/** From the best to the worst. */
export const boundaryKinds = ["sentences", "clauses", "spaces", "words", "clusters"] as const;
export type BoundaryKind = (typeof boundaryKinds)[number];

/** The boundaries of a text by kind, each found when it is first asked for: ascending ends, the text's own end last, none inside a grapheme cluster. */
export class Boundaries {
  readonly #text: string;
  readonly #language: string;
  readonly #found = new Map<BoundaryKind, readonly number[]>();

  /** @param language BCP-47 */
  constructor(text: string, language: string) {
    this.#text = text;
    this.#language = language;
  }

  of(kind: BoundaryKind): readonly number[] {
    let ends = this.#found.get(kind);
    if (ends === undefined) {
      ends = this.#find(kind);
      this.#found.set(kind, ends);
    }
    return ends;
  }

  #find(kind: BoundaryKind): readonly number[] {
    const text = this.#text;
    switch (kind) {
      case "sentences":
        return segmentEnds(text, this.#language, "sentence").filter((end) => end === text.length || !endsInAbbreviation(text, end));
      case "clauses":
        return this.#behind(clauseEnd);
      case "spaces":
        return this.#behind(spaces);
      case "words": {
        const clusters = new Set(this.of("clusters"));
        return segmentEnds(text, this.#language, "word").filter((end) => clusters.has(end) && !closes(text, end));
      }
      case "clusters":
        return segmentEnds(text, this.#language, "grapheme");
    }
  }

  /** Ends of the matches, and of the text. */
  #behind(pattern: RegExp): readonly number[] {
    const ends: number[] = [];
    for (const match of this.#text.matchAll(pattern)) {
      const end = match.index + match[0].length;
      if (end < this.#text.length && !continuesCluster(this.#text, end)) ends.push(end);
    }
    ends.push(this.#text.length);
    return ends;
  }
}

const spaces = /\s+/gu;
// Latin punctuation ends a clause only before a space ("3,000", "10:30"); East Asian punctuation stands alone.
const clauseEnd = /[,;:–—)\]]\s+|[，；：、）】」』؛،]\s*/gu;
const closing = /[\p{Pe}\p{Pf}\p{Po}]/uy;

function closes(text: string, index: number): boolean {
  closing.lastIndex = index;
  return closing.test(text);
}

// Unicode's rules break behind "Mr. " and "J. " before a capital letter. ICU's lists of exceptions are out of reach: Intl drops "-u-ss-".
const abbreviation =
  /(?:^|[^\p{L}\p{N}])(?:\p{Lu}|Mr|Mrs|Ms|Dr|Prof|St|Mt|Sr|Jr|Rev|Hon|Gen|Col|Capt|Lt|Sgt|vs|cf|[Nn]o|Nos|Nr|[Ff]ig|[Vv]ol|pp?|Inc|Ltd|Co|Corp|approx|e\.g|i\.e|[Zz]\.\s?B|Sra|Srta|Mme|Mlle|им|ул|г|напр|např|tzv|esim)\.\s*$/u;
const longestAbbreviation = 12;

function endsInAbbreviation(text: string, end: number): boolean {
  return abbreviation.test(text.slice(Math.max(0, end - longestAbbreviation), end));
}

type Granularity = "sentence" | "word" | "grapheme";
/** Making a segmenter takes as long as cutting some hundred lines with it. */
const segmenters = new Map<string, Intl.Segmenter>();

function segmentEnds(text: string, language: string, granularity: Granularity): number[] {
  const key = `${granularity} ${language}`;
  let segmenter = segmenters.get(key);
  if (segmenter === undefined) {
    segmenter = new Intl.Segmenter(language, { granularity });
    segmenters.set(key, segmenter);
  }
  const ends: number[] = [];
  for (const { index, segment } of segmenter.segment(text)) ends.push(index + segment.length);
  return ends;
}
