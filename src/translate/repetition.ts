/** Repetition, the typical fault of a model that has lost the thread: the same words over and over. */

/** Words, or single characters of scripts that set no space between words. */
const token =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]|[\p{L}\p{M}\p{N}]+/gu;

/** n of the n-grams: four words, or about as many characters as make three words. */
const wordsPerGram = 4;
const charactersPerGram = 6;
/** Shorter texts repeat by chance. */
const fewestGrams = 12;
/** Share of n-grams that have come before, beyond the share that the source has of its own: poems, tables and lists repeat too. */
const maxExtraShare = 0.25;

/** A phrase of at most so many words is looked for, this often in a row and covering this many words. */
const longestPhrase = 10;
const fewestRounds = 4;
const fewestWordsCovered = 6;

/** What a translation repeats and its source does not, in words; null for nothing. */
export function findRepetition(source: string, translation: string): string | null {
  const tokens = tokensOf(translation);
  const distinct = new Set(tokens).size;
  // Where so many n-grams repeat, their first words do.
  if (tokens.length < fewestWordsCovered || distinct > tokens.length * (1 - maxExtraShare)) return null;
  const loop = findLoop(tokens);
  if (loop !== null && findLoop(tokensOf(source)) === null) return `"${loop.phrase}" ${loop.rounds} times in a row`;
  const share = repeatedShare(tokens);
  if (share === null || share <= maxExtraShare) return null;
  const ofSource = repeatedShare(tokensOf(source)) ?? 0;
  if (share <= ofSource + maxExtraShare) return null;
  return `${Math.round(100 * share)}% of the ${gramLength(tokens)}-grams come again (source: ${Math.round(100 * ofSource)}%)`;
}

function tokensOf(text: string): readonly string[] {
  return text.toLowerCase().match(token) ?? [];
}

function gramLength(tokens: readonly string[]): number {
  const characters = tokens.reduce((sum, { length }) => sum + length, 0);
  return characters < 2 * tokens.length ? charactersPerGram : wordsPerGram;
}

function repeatedShare(tokens: readonly string[]): number | null {
  const n = gramLength(tokens);
  const grams = tokens.length - n + 1;
  if (grams < fewestGrams) return null;
  const seen = new Set<string>();
  for (let i = 0; i < grams; i++) seen.add(tokens.slice(i, i + n).join(" "));
  return 1 - seen.size / grams;
}

function findLoop(tokens: readonly string[]): { readonly phrase: string; readonly rounds: number } | null {
  for (let period = 1; period <= longestPhrase; period++) {
    let repeated = 0;
    for (let i = period; i <= tokens.length; i++) {
      if (i < tokens.length && tokens[i] === tokens[i - period]) {
        repeated++;
        continue;
      }
      const rounds = Math.floor(repeated / period) + 1;
      if (rounds >= fewestRounds && repeated + period >= fewestWordsCovered) {
        return { phrase: tokens.slice(i - period, i).join(" "), rounds };
      }
      repeated = 0;
    }
  }
  return null;
}
