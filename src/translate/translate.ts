/** `translate`: one language's Alpaca data into others, each segment paid for once. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { lockFolder } from "../checkpoint/folder-lock.js";
import { type Usage, UsageMeter } from "../endpoint/usage.js";
import { PolypacaError } from "../errors.js";
import { comparableCode, FastTextModel, identifyLanguage, languageName, parseLanguageCode, undecided } from "../language-id/index.js";
import { type PendingBatches, submitBatches } from "./ask.js";
import { collectGarbage } from "./collect-garbage.js";
import { type Corpus, planCorpus } from "./corpus.js";
import { openTranslationJournal, type TranslationJournal } from "./journal.js";
import { failedPath, type LanguageRun, type LanguageSummary, runLanguage } from "./language-run.js";
import type { TranslationProvider } from "./providers/provider.js";
import type { TranslateEnvironment, TranslateSettings } from "./settings.js";
import { readSource, type SourceSettings } from "./source.js";

/** `translate --json`. */
export interface TranslateSummary {
  readonly out: string;
  readonly provider: string;
  readonly model: string;
  readonly source: string;
  readonly languages: Readonly<Record<string, LanguageSummary>>;
  /** Of this run; null where the provider reports none. */
  readonly usage: Usage | null;
}

export const translateLockName = "translate.lock";

/** `journal.<lang>.jsonl` in the out folder. */
export function journalPath(out: string, language: string): string {
  return join(out, `journal.${language}.jsonl`);
}

/**
 * Translates `data` into every target, one language after the other: what the journal has is taken from there, the rest is asked for,
 * then `alpaca.<lang>.json` and `quality.<lang>.json` are written. A run that was stopped or killed goes on where it was.
 *
 * A segment that fails for good leaves its records without a translation. They are never written in the source's language: without
 * `drop` the language's file is not written (an older one is removed), the segments are listed in `failed.<lang>.json`, the other
 * languages are still made, and the call ends with `INCOMPLETE`; with `drop` those records are left out.
 *
 * @throws PolypacaError `USAGE` for languages that cannot be; `BAD_RECORD`, `BAD_DATA` for the data or a broken journal; `RUN_LOCKED`
 *   where another process translates into that folder; `INCOMPLETE` where segments failed; `CANCELLED`, `DISK_FULL`, `IO`, with all
 *   that was answered kept in the journals
 */
export async function translate(
  settings: TranslateSettings,
  provider: TranslationProvider,
  environment: TranslateEnvironment,
): Promise<TranslateSummary> {
  const source = await readSource(settings, environment.note);
  assertTargets(settings, source.language);
  collectGarbage();
  const lock = lockFolder(settings.out, environment.now(), { fileName: translateLockName, work: "translating" });
  try {
    if (lock.takenOverFrom !== null) {
      const { pid, since } = lock.takenOverFrom;
      environment.note(`${settings.out}: process ${pid}, which translated there from ${since} on, is gone; its lock was taken over`);
    }
    const { maxCharacters, joinSentences } = provider;
    const options = { language: source.language, maxCharacters, joinSentences };
    const corpus = await planCorpus(source.records, source.values, options, environment.signal);
    collectGarbage();
    return await translateAll({ settings, provider, environment, corpus, sourceLanguage: source.language });
  } finally {
    lock.release();
  }
}

function assertTargets({ targets, data, out }: TranslateSettings, source: string): void {
  for (const code of targets) parseLanguageCode(code, "--langs");
  parseLanguageCode(source, "--source");
  if (targets.length === 0) throw new PolypacaError("USAGE", "--langs: no language is given.");
  const twice = targets.find((code, index) => targets.indexOf(code) !== index);
  if (twice !== undefined) throw new PolypacaError("USAGE", `--langs: "${twice}" is given twice.`);
  if (targets.includes(source))
    throw new PolypacaError("USAGE", `--langs: "${source}" is the language of ${data}. Leave it out, or say the source's with --source.`);
  const overwritten = targets.map((code) => join(out, `alpaca.${code}.json`)).find((path) => resolve(path) === resolve(data));
  if (overwritten !== undefined)
    throw new PolypacaError("USAGE", `--data ${data} would be overwritten by its own translation. Choose another --out.`);
}

interface Work {
  readonly settings: TranslateSettings;
  readonly provider: TranslationProvider;
  readonly environment: TranslateEnvironment;
  readonly corpus: Corpus;
  readonly sourceLanguage: string;
}

async function translateAll(work: Work): Promise<TranslateSummary> {
  const { settings, provider, environment, corpus, sourceLanguage } = work;
  const usage = new UsageMeter(settings.prices);
  const submitted = await submitEveryLanguage(work);
  const identify = await languageIdentifier([sourceLanguage, ...settings.targets], environment.note);
  const languages: Record<string, LanguageSummary> = {};
  for (const target of settings.targets) {
    const pair = { source: sourceLanguage, target };
    const journal = openJournal(work, target);
    const run: LanguageRun = {
      ...{ settings, provider, environment, corpus, pair, journal, usage, submitted: submitted.get(target) ?? null },
      identify: identify(target),
    };
    try {
      languages[target] = await runLanguage(run);
    } catch (cause) {
      throw withPlace(cause, journalPath(settings.out, target));
    } finally {
      journal.close();
    }
  }
  refuseIncomplete(settings, languages);
  const { name, model } = provider;
  return { out: settings.out, provider: name, model, source: sourceLanguage, languages, usage: usage.total() };
}

/** For each language, the language of its texts, chosen among those of the run. */
async function languageIdentifier(
  languages: readonly string[],
  note: (line: string) => void,
): Promise<(target: string) => (text: string) => string> {
  const model = await FastTextModel.loadBundled();
  const candidates = languages.map(comparableCode);
  return (target) => {
    if (model.languages.includes(comparableCode(target))) return (text) => identifyLanguage(model, text, { candidates }).language;
    note(`${target}: ${model.name} does not know ${languageName(target) ?? target}; its translations are not checked for their language`);
    return () => undecided;
  };
}

function openJournal({ settings, provider, environment, sourceLanguage: source }: Work, target: string): TranslationJournal {
  const scope = { provider: provider.name, model: provider.model, source, target };
  return openTranslationJournal(journalPath(settings.out, target), scope, environment.now);
}

/** Batches take hours: those of all languages are under way before the first is waited for. */
async function submitEveryLanguage(work: Work): Promise<ReadonlyMap<string, PendingBatches>> {
  const pending = new Map<string, PendingBatches>();
  const { provider, corpus, settings, environment, sourceLanguage: source } = work;
  if (provider.kind !== "batch") return pending;
  for (const target of settings.targets) {
    const journal = openJournal(work, target);
    try {
      const indices = corpus.hashes.flatMap((hash, index) => (!journal.has(hash) ? [index] : []));
      pending.set(target, await submitBatches(provider, { pair: { source, target }, corpus, journal, indices }, environment));
    } finally {
      journal.close();
    }
  }
  return pending;
}

function withPlace(cause: unknown, journal: string): PolypacaError {
  const error = PolypacaError.from(cause, { during: "translation" });
  if (error.code !== "CANCELLED") return error;
  const kept = existsSync(journal) ? `; what was answered is kept in ${journal}` : "";
  return new PolypacaError("CANCELLED", `${error.message}${kept}. Run the same command again to go on.`, { cause });
}

function refuseIncomplete({ out }: TranslateSettings, languages: Readonly<Record<string, LanguageSummary>>): void {
  const failed = Object.entries(languages).filter(([, { file }]) => file === null);
  if (failed.length === 0) return;
  const lines = failed.map(([code, summary]) => `${code}: ${summary.failed} segments failed, listed in ${failedPath(out, code)}`);
  const advice = "Run the command again to ask for them once more, or with --drop to leave their records out.";
  throw new PolypacaError("INCOMPLETE", `${lines.join("; ")}. ${advice}`);
}

/** Writes what is to be translated elsewhere, for `--provider files`. */
export async function exportSegments(
  settings: SourceSettings & { readonly file: string; readonly maxCharacters: number; readonly joinSentences: boolean },
  { note, signal }: Pick<TranslateEnvironment, "note" | "signal">,
): Promise<{ readonly file: string; readonly segments: number }> {
  const { file, maxCharacters, joinSentences } = settings;
  const { language, records, values } = await readSource(settings, note);
  const { segments, hashes } = await planCorpus(records, values, { language, maxCharacters, joinSentences }, signal);
  const lines = file.endsWith(".jsonl") ? hashes.map((id, i) => JSON.stringify({ id, text: segments[i] })) : segments;
  await writeFileAtomic(file, lines.map((line) => `${line}\n`).join(""));
  return { file, segments: segments.length };
}
