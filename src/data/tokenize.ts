import { setImmediate } from "node:timers/promises";
import { PolypacaError } from "../errors.js";
import type { Tokenizer } from "../tokenizer/index.js";
import type { AlpacaRecord } from "./alpaca.js";
import type { RecordPlace } from "./json-records.js";
import { type PromptTemplate, renderPrompt } from "./template.js";

/** Label of a token that carries no loss. */
export const ignoredLabel = -100;

/** A training example of T tokens. */
export interface Example {
  /** [T] */
  readonly inputIds: Int32Array;
  /** [T] aligned with `inputIds`; -100: no loss. The same array where nothing is masked. */
  readonly labels: Int32Array;
  /** Labels that are targets: not -100, and not at position 0, which nothing predicts. */
  readonly targetTokens: number;
  readonly place: RecordPlace;
  readonly language: string;
  /** The text was longer than the cutoff. */
  readonly truncated: boolean;
}

export type TrainOn = "prompt+response" | "response";

export interface TokenizeSettings {
  readonly template: PromptTemplate;
  /** Most tokens of an example, BOS and EOS included. */
  readonly cutoff: number;
  readonly trainOn: TrainOn;
}

/**
 * Prompt and response as one text: BOS where the tokenizer puts it, EOS where the cutoff leaves room, what is over the cutoff cut off.
 * With `trainOn` "response" the first `len(tokens(prompt))` labels are masked, BOS counted.
 */
export function tokenizeRecord(record: AlpacaRecord, tokenizer: Tokenizer, settings: TokenizeSettings): Example {
  const { template, cutoff, trainOn } = settings;
  const prompt = renderPrompt(template, record);
  const bos = tokenizer.addsBos && tokenizer.bosTokenId !== null ? [tokenizer.bosTokenId] : [];
  const text = tokenizer.encode(prompt + record.output);
  const whole = bos.length + text.length;
  const length = Math.min(whole, cutoff);
  const eos = whole < cutoff && tokenizer.eosTokenId !== null ? [tokenizer.eosTokenId] : [];
  const inputIds = new Int32Array(length + eos.length);
  inputIds.set(bos);
  inputIds.set(text.subarray(0, length - bos.length), bos.length);
  inputIds.set(eos, length);
  const masked = trainOn === "response" ? bos.length + tokenizer.encode(prompt).length : 0;
  const { place, language } = record;
  return { inputIds, ...maskedLabels(inputIds, masked), place, language, truncated: whole > cutoff };
}

/** Labels of an example whose first `masked` tokens carry no loss. */
export function maskedLabels(inputIds: Int32Array, masked: number): Pick<Example, "labels" | "targetTokens"> {
  const labels = masked === 0 ? inputIds : inputIds.slice().fill(ignoredLabel, 0, masked);
  return { labels, targetTokens: Math.max(0, inputIds.length - Math.max(1, masked)) };
}

export interface TokenizeEnvironment {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * All records in order, at some 100,000 tokens per second; the event loop runs in between.
 *
 * @throws PolypacaError `CANCELLED`
 */
export async function tokenizeRecords(
  records: readonly AlpacaRecord[],
  tokenizer: Tokenizer,
  settings: TokenizeSettings,
  { signal, onProgress }: TokenizeEnvironment = {},
): Promise<Example[]> {
  const examples: Example[] = [];
  for (const record of records) {
    if (examples.length % 128 === 0) {
      onProgress?.(examples.length, records.length);
      await setImmediate();
      if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while tokenising; nothing was trained yet.");
    }
    examples.push(tokenizeRecord(record, tokenizer, settings));
  }
  onProgress?.(records.length, records.length);
  return examples;
}

/** Of one language's training examples; those without a target are only counted in `withoutTarget`. */
export interface LanguageCounts {
  readonly examples: number;
  readonly tokens: number;
  readonly targetTokens: number;
  /** Cut by the cutoff. */
  readonly truncated: number;
  readonly withoutTarget: number;
}

export interface SiftedExamples {
  /** With at least one target. */
  readonly examples: readonly Example[];
  readonly withoutTarget: readonly Example[];
  /** By language code, in order of first appearance. */
  readonly languages: ReadonlyMap<string, LanguageCounts>;
}

/**
 * Takes out the examples in which nothing would be trained, and counts per language.
 *
 * @param maxEmptyShare how many of all examples may be without a target, 0 to 1
 * @throws PolypacaError `BAD_DATA` where all are, or more than `maxEmptyShare`
 */
export function siftExamples(all: readonly Example[], maxEmptyShare: number): SiftedExamples {
  const withoutTarget = all.filter(({ targetTokens }) => targetTokens === 0);
  if (withoutTarget.length > 0 && (withoutTarget.length === all.length || withoutTarget.length > maxEmptyShare * all.length)) {
    const { file, line } = withoutTarget[0]!.place;
    throw new PolypacaError(
      "BAD_DATA",
      `${withoutTarget.length} of ${all.length} examples have no target left, the first at ${file} line ${line}: the prompt alone fills the cutoff. Raise --cutoff${withoutTarget.length < all.length ? ", or --max-empty-share to leave them out" : ""}.`,
    );
  }
  const languages = new Map<string, LanguageCounts>();
  const none = { examples: 0, tokens: 0, targetTokens: 0, truncated: 0, withoutTarget: 0 };
  for (const { language, inputIds, targetTokens, truncated } of all) {
    const counts = languages.get(language) ?? none;
    languages.set(
      language,
      targetTokens === 0
        ? { ...counts, withoutTarget: counts.withoutTarget + 1 }
        : {
            ...counts,
            examples: counts.examples + 1,
            tokens: counts.tokens + inputIds.length,
            targetTokens: counts.targetTokens + targetTokens,
            truncated: counts.truncated + Number(truncated),
          },
    );
  }
  return { examples: all.filter(({ targetTokens }) => targetTokens > 0), withoutTarget, languages };
}
