/** One target language: asks for what is missing, checks the translations, writes the files. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import type { TokenUsage } from "../endpoint/request.js";
import type { UsageMeter } from "../endpoint/usage.js";
import type { Progress } from "../train/progress.js";
import { askLive, collectBatches, type PendingBatches, type Question, submitBatches } from "./ask.js";
import { collectGarbage } from "./collect-garbage.js";
import { type AssembledRecord, assembleRecord, type Corpus, type PlannedRecord, segmentsOf, translatedFields } from "./corpus.js";
import type { TranslationJournal } from "./journal.js";
import type { LanguagePair, TranslationProvider } from "./providers/provider.js";
import {
  type FlaggedRecord,
  flagRecords,
  type QualitySummary,
  summariseQuality,
  type TextFields,
  type TranslatedRecord,
} from "./quality.js";
import type { TranslateEnvironment, TranslateSettings } from "./settings.js";
import { writeLanguage } from "./write-language.js";

export interface LanguageRun {
  readonly settings: TranslateSettings;
  readonly provider: TranslationProvider;
  readonly environment: TranslateEnvironment;
  readonly corpus: Corpus;
  readonly pair: LanguagePair;
  readonly journal: TranslationJournal;
  readonly usage: UsageMeter;
  /** The language a text is written in. */
  readonly identify: (text: string) => string;
  /** Of a batch provider: what was submitted for this language. */
  readonly submitted: PendingBatches | null;
}

/** What became of one language. */
export interface LanguageSummary {
  /** null: not written, since segments failed. */
  readonly file: string | null;
  /** Quality report. */
  readonly report: string;
  /** Written. */
  readonly records: number;
  /** Different ones. */
  readonly segments: number;
  /** Answered in this run, repeated questions included. */
  readonly translated: number;
  /** Taken from the journal. */
  readonly reused: number;
  /** Segments without a translation. */
  readonly failed: number;
  /** Records with a quality flag, those that were dropped included. */
  readonly flagged: number;
  /** Records left out of the file. */
  readonly dropped: number;
  readonly quality: QualitySummary;
}

/** @throws PolypacaError as `translate` does */
export async function runLanguage(run: LanguageRun): Promise<LanguageSummary> {
  const { corpus, journal, settings } = run;
  const { indices: missing, reused } = missingSegments(corpus, journal);
  noteRequestsInFlight(run);
  const asking = new Asking(run, reused);
  await asking.ask(missing, run.submitted);
  collectGarbage();
  let checked = check(run);
  for (let turn = 1; turn <= settings.retry; turn++) {
    const again = flaggedSegments(checked).filter((index) => journal.answers(corpus.hashes[index]!) <= turn);
    if (again.length === 0) continue;
    run.environment.note(
      `${run.pair.target}: ${again.length} segments of flagged records are asked for again (${turn} of ${settings.retry})`,
    );
    await asking.ask(again, null);
    checked = check(run);
  }
  return await writeFiles(run, checked, asking, reused);
}

function missingSegments(
  { hashes }: Corpus,
  journal: TranslationJournal,
): { readonly indices: readonly number[]; readonly reused: number } {
  const indices = hashes.flatMap((hash, index) => (!journal.has(hash) ? [index] : []));
  return { indices, reused: hashes.length - indices.length };
}

const mostListed = 5;

/** A killed run's requests may have been carried out and charged: a service that honours the key answers them from what it did then. */
function noteRequestsInFlight({ journal, provider, environment, corpus, pair }: LanguageRun): void {
  if (provider.kind === "batch") return; // its requests are found through the list of batches
  const indexOf = new Map(corpus.hashes.map((hash, index) => [hash, index]));
  const hashes = journal.inFlight().filter((hash) => indexOf.has(hash) && !journal.has(hash));
  if (hashes.length === 0) return;
  const texts = hashes.slice(0, mostListed).map((hash) => JSON.stringify(corpus.segments[indexOf.get(hash)!]!.slice(0, 60)));
  const more = hashes.length > mostListed ? ` and ${hashes.length - mostListed} more` : "";
  const were = hashes.length === 1 ? "1 request was" : `${hashes.length} requests were`;
  environment.note(
    `${pair.target}: ${were} under way when the last run ended, and made again with the same Idempotency-Key: ${texts.join(", ")}${more}`,
  );
}

/** Asks, shows how far it is, and keeps count. */
class Asking {
  readonly failures = new Map<number, string>();
  readonly #run: LanguageRun;
  readonly #reused: number;
  #translated = 0;

  constructor(run: LanguageRun, reused: number) {
    this.#run = run;
    this.#reused = reused;
  }

  get translated(): number {
    return this.#translated;
  }

  async ask(indices: readonly number[], submitted: PendingBatches | null): Promise<void> {
    if (indices.length === 0) return;
    const { provider, environment, corpus, pair } = this.#run;
    const start = this.#translated === 0 ? this.#reused : 0;
    const task = { label: pair.target, start, total: start + indices.length };
    const progress = environment.openProgress(task);
    const noted = { ...environment, note: progress.note };
    const question = this.#question(indices, progress, task);
    try {
      if (provider.kind === "live") await askLive(provider, question, noted);
      else await collectBatches(submitted ?? (await submitBatches(provider, question, noted)), question);
    } finally {
      progress.stop();
    }
    if (this.failures.size > 0) environment.note(`${pair.target}: ${this.failures.size} of ${corpus.segments.length} segments failed`);
  }

  #question(indices: readonly number[], progress: Progress, { start }: { readonly start: number }): Question {
    const { pair, corpus, journal, usage, environment } = this.#run;
    const began = environment.now();
    let done = 0;
    const count = (tokens: TokenUsage | null): void => {
      usage.add(tokens);
      done++;
      const seconds = (environment.now() - began) / 1000;
      const rate = seconds > 0 ? `${Math.round(done / seconds)} segments/s` : "";
      progress.update(start + done, [rate, usage.describe()].filter(Boolean).join(", "));
    };
    return {
      ...{ pair, corpus, journal, indices },
      onAnswer: (index, tokens) => {
        this.#translated++;
        this.failures.delete(index);
        count(tokens);
      },
      onFailure: (index, reason, tokens) => {
        // A translation that only was not bettered is no failure.
        if (!journal.has(corpus.hashes[index]!)) this.failures.set(index, reason);
        count(tokens);
      },
    };
  }
}

/** The records that are whole, and what is wrong with them. */
interface Checked {
  readonly whole: readonly PlannedRecord[];
  /** For the quality checks; aligned with `whole`. */
  readonly texts: readonly TranslatedRecord[];
  /** By index into `whole`. */
  readonly flagged: readonly FlaggedRecord[];
}

function check({ corpus, journal, pair, identify }: LanguageRun): Checked {
  const whole = corpus.records.filter((planned) => segmentsOf(planned).every((index) => journal.has(corpus.hashes[index]!)));
  const assembler = new Assembler(corpus, journal);
  const texts = whole.map((planned) => new CheckedRecord(planned, assembler));
  const flagged = flagRecords(texts, { sourceLanguage: pair.source, targetLanguage: pair.target, identify });
  return { whole, texts, flagged };
}

/** Puts records together from the journal when they are looked at: all of a language at once would take 200 MB. */
class Assembler {
  readonly #corpus: Corpus;
  readonly #journal: TranslationJournal;
  #latest: { readonly planned: PlannedRecord; readonly record: AssembledRecord } | null = null;

  constructor(corpus: Corpus, journal: TranslationJournal) {
    this.#corpus = corpus;
    this.#journal = journal;
  }

  /** @param planned each of its segments has a translation */
  assemble(planned: PlannedRecord): AssembledRecord {
    if (this.#latest?.planned !== planned) {
      const record = assembleRecord(planned, (index) => this.#journal.answer(this.#corpus.hashes[index]!)!.text);
      this.#latest = { planned, record };
    }
    return this.#latest.record;
  }
}

class CheckedRecord implements TranslatedRecord {
  readonly #planned: PlannedRecord;
  readonly #assembler: Assembler;

  constructor(planned: PlannedRecord, assembler: Assembler) {
    this.#planned = planned;
    this.#assembler = assembler;
  }

  get id(): string {
    return idOf(this.#planned.record);
  }

  get source(): TextFields {
    const { instruction, input, output } = this.#planned.record;
    return { instruction, input, output };
  }

  get translation(): TextFields {
    const { instruction, input, output } = this.#assembler.assemble(this.#planned);
    return { instruction, input, output };
  }

  get lost(): readonly string[] {
    return this.#assembler.assemble(this.#planned).lost;
  }
}

function idOf({ id, place }: PlannedRecord["record"]): string {
  return id ?? String(place.index);
}

/** Of the fields with a finding, each once. */
function flaggedSegments({ whole, flagged }: Checked): number[] {
  const indices = flagged.flatMap(({ index, findings }) => {
    const named = translatedFields.filter((field) => findings.some((finding) => finding.field === field));
    const isAnywhere = findings.some(({ field }) => field === null);
    return segmentsOf(whole[index]!, isAnywhere ? translatedFields : named);
  });
  return [...new Set(indices)];
}

async function writeFiles(run: LanguageRun, checked: Checked, asking: Asking, reused: number): Promise<LanguageSummary> {
  const { settings, corpus, pair } = run;
  const { whole, flagged } = checked;
  const file = join(settings.out, `alpaca.${pair.target}.json`);
  const report = join(settings.out, `quality.${pair.target}.json`);
  const left = new Set(settings.drop ? flagged.map(({ index }) => index) : []);
  const kept = whole.filter((_, index) => !left.has(index));
  const isWritten = settings.drop || whole.length === corpus.records.length;
  const quality = summariseQuality(checked.texts, flagged);
  collectGarbage();
  await writeFailed(run, asking.failures);
  await writeReport(report, run, checked, left, quality);
  const assembler = new Assembler(corpus, run.journal);
  if (isWritten) await writeLanguage(file, pair.target, kept, (planned) => assembler.assemble(planned));
  else await rm(file, { force: true }); // of an earlier run: it must not be taken for this one's
  return {
    ...{ file: isWritten ? file : null, report, records: isWritten ? kept.length : 0, segments: corpus.segments.length },
    ...{ translated: asking.translated, reused, failed: asking.failures.size },
    ...{ flagged: flagged.length, dropped: isWritten ? corpus.records.length - kept.length : 0, quality },
  };
}

/** The segments without a translation, with the records they belong to; removed where there are none. */
async function writeFailed({ settings, corpus, pair }: LanguageRun, failures: ReadonlyMap<number, string>): Promise<void> {
  const path = failedPath(settings.out, pair.target);
  if (failures.size === 0) return await rm(path, { force: true });
  const recordsOf = new Map<number, string[]>([...failures.keys()].map((index) => [index, []]));
  for (const planned of corpus.records) for (const index of new Set(segmentsOf(planned))) recordsOf.get(index)?.push(idOf(planned.record));
  const rows = [...failures].map(([index, reason]) => ({ text: corpus.segments[index], reason, records: recordsOf.get(index) }));
  await writeFileAtomic(path, `${JSON.stringify(rows, null, 2)}\n`);
}

export function failedPath(out: string, language: string): string {
  return join(out, `failed.${language}.json`);
}

async function writeReport(
  path: string,
  { provider, pair }: LanguageRun,
  { texts, flagged }: Checked,
  left: ReadonlySet<number>,
  quality: QualitySummary,
): Promise<void> {
  const records = flagged.map(({ index, id, flags, findings }) => {
    const { source, translation } = texts[index]!;
    return { id, flags, dropped: left.has(index), findings, source, translation };
  });
  const { name, model } = provider;
  await writeFileAtomic(path, `${JSON.stringify({ ...pair, provider: name, model, ...quality, flaggedRecords: records }, null, 2)}\n`);
}
