/**
 * How long a translation usually is against its source, learned from the run itself.
 *
 * The logarithm of the ratio of lengths is roughly normal around a value of the language pair, with a spread that falls with the length of
 * the text: a sentence of ten words is easily half as long again, a page is not. Centre and spread are the median and the median absolute
 * deviation (times 1.4826, which makes it a standard deviation for normal data), since what is looked for must not move them. In a small
 * run a prior has the larger say.
 */

export interface TextLengths {
  /** Characters of the source, 1 or more. */
  readonly source: number;
  readonly translation: number;
}

export interface UsualRatio {
  /** Log of translation over source. */
  readonly center: number;
  /** Standard deviation of the log ratio of a long text. */
  readonly spread: number;
}

/**
 * Characters against English for the same content, measured on this project's sample (experiments/sample, 60 records of 300 characters,
 * written by people); `bn`, `hi`, `no` on the study's 50 test prompts.
 */
const lengthAgainstEnglish: Readonly<Record<string, number>> = {
  ...{ en: 1, bg: 0.97, cs: 0.9, de: 1.12, es: 1.07, fi: 1.02, fr: 1.15, ru: 0.97, zh: 0.33 },
  ...{ bn: 1.07, hi: 1.08, no: 1.02 },
};

/** The spread over those records, 0.05 (Finnish) to 0.11 (Russian). */
const knownSpread = 0.09;
/** Where a language is not in the table: wide enough that only the run itself says what is usual. */
const unknownSpread = 0.5;
/** Texts that the prior counts as. */
const priorWeight = 20;
/** A provider that gives back the source has no spread at all; nor would then a single changed word be worth a flag. */
const leastSpread = 0.05;
/** Length at which a text's spread is sqrt(2) times that of a long one: sentences of 20 to 40 characters have twice the spread of whole records. */
const halfLength = 100;

/** The ratio to expect before any text has been seen. */
export function priorRatio(sourceLanguage: string, targetLanguage: string): UsualRatio {
  const [source, target] = [lengthAgainstEnglish[sourceLanguage], lengthAgainstEnglish[targetLanguage]];
  if (source === undefined || target === undefined) return { center: 0, spread: unknownSpread };
  return { center: Math.log(target / source), spread: knownSpread };
}

/** What is usual in a run: the run's median and spread, weighted against the prior by the number of texts. */
export function usualRatio(texts: readonly TextLengths[], prior: UsualRatio): UsualRatio {
  if (texts.length === 0) return prior;
  const center = weigh(median(texts.map(logRatio)), prior.center, texts.length);
  const deviations = texts.map((text) => Math.abs(logRatio(text) - center) / lengthFactor(text));
  return { center, spread: Math.max(leastSpread, weigh(1.4826 * median(deviations), prior.spread, texts.length)) };
}

/** Deviation from what is usual in standard deviations for a text of this length; below 0 for a translation that is short. */
export function ratioDeviation(text: TextLengths, usual: UsualRatio): number {
  return (logRatio(text) - usual.center) / (usual.spread * lengthFactor(text));
}

function logRatio({ source, translation }: TextLengths): number {
  return Math.log(Math.max(1, translation) / source);
}

function lengthFactor({ source }: TextLengths): number {
  return Math.sqrt(1 + halfLength / source);
}

function weigh(ofRun: number, ofPrior: number, texts: number): number {
  return (texts * ofRun + priorWeight * ofPrior) / (texts + priorWeight);
}

function median(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
