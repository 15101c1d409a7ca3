/** `judge`: a rating of 1 to 3 from a language model for each response, each paid for once. */
import { mkdir } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { writeFileAtomic, writingError } from "../../checkpoint/atomic.js";
import { lockFolder } from "../../checkpoint/folder-lock.js";
import { Stopping } from "../../endpoint/ask-each.js";
import { apiKeyFrom } from "../../endpoint/openai-client.js";
import { defaultRetryPolicy, type RetryPolicy } from "../../endpoint/retry.js";
import { type Usage, UsageMeter } from "../../endpoint/usage.js";
import { PolypacaError } from "../../errors.js";
import type { Progress } from "../../train/progress.js";
import { describePair } from "../pair-key.js";
import { askInBatches, askLive, Tally } from "./asking.js";
import { type JudgementJournal, openJudgementJournal } from "./journal.js";
import { defaultJudgePromptFile, type JudgePrompt, readJudgePrompt } from "./judge-prompt.js";
import { type JudgementRow, type Question, type Questions, readQuestions } from "./questions.js";
import type { JudgeSettings } from "./settings.js";

export interface JudgeEnvironment {
  readonly note: (line: string) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Uniform in [0, 1): spreads retries. */
  readonly random: () => number;
  readonly signal?: AbortSignal;
  /** Environment variables: one of them holds the API key. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly openProgress: (task: { readonly label: string; readonly start: number; readonly total: number }) => Progress;
  /** Default {@link defaultRetryPolicy}; `maxRetries` is the settings'. */
  readonly retry?: RetryPolicy;
  /** Between two looks at the batches under way. Default 30,000. */
  readonly batchPollMs?: number;
}

/** `judge --json`. */
export interface JudgeSummary {
  readonly out: string;
  readonly judge: string;
  readonly model: string;
  /** Changes with the prompt: judgements of different prompts are not to be compared. */
  readonly promptVersion: string;
  /** Written: responses times repeats. */
  readonly rows: number;
  /** Questions answered in this run. Pairs that are equal are one question. */
  readonly judged: number;
  /** Rows whose answer was in the journal, or is that of another row with an equal pair. */
  readonly reused: number;
  /** Rows for which the judge gave no rating, however often it was asked. */
  readonly unparsable: number;
  /** Rows for which no answer came; the next run asks for them again. */
  readonly failed: number;
  /** Of this run; null where the endpoint reports none. */
  readonly usage: Usage | null;
}

export function judgeJournalPath({ out, journal }: Pick<JudgeSettings, "out" | "journal">): string {
  return journal ?? `${out}.journal`;
}

/**
 * Has every response judged that the journal has no judgement of, then writes `out`: each pair once (with `repeat`, once per repeat), in
 * the responses' order. A run that was stopped or killed goes on where it was; `out` is written at the end, whole.
 *
 * A pair without a rating has `rating` null: because the judge's answers had none (`unparsable`, kept in the journal and asked for again
 * only with `retryUnparsable`), or because no answer came (`failed`, with the reason in `error`).
 *
 * @throws PolypacaError `USAGE` where the API key is missing or refused; `BAD_TEMPLATE`, `BAD_RECORD`, `BAD_DATA` for the prompt, the
 *   responses or a broken journal; `RUN_LOCKED` where another process uses the journal; `INCOMPLETE` where many requests fail in turn;
 *   `CANCELLED`, `DISK_FULL`, `IO`, with all that was answered kept in the journal
 */
export async function judge(settings: JudgeSettings, environment: JudgeEnvironment): Promise<JudgeSummary> {
  const prompt = await readJudgePrompt(settings.promptFile ?? defaultJudgePromptFile());
  const questions = await readQuestions(settings);
  assertOut(settings);
  const apiKey = apiKeyFrom(environment.variables, settings.apiKeyEnv);
  const path = judgeJournalPath(settings);
  const lock = lockFolder(dirname(path), environment.now(), { fileName: `${basename(path)}.lock`, work: "judging" });
  try {
    if (lock.takenOverFrom !== null) {
      const { pid, since } = lock.takenOverFrom;
      environment.note(`${path}: process ${pid}, which judged with it from ${since} on, is gone; its lock was taken over`);
    }
    await mkdir(dirname(settings.out), { recursive: true }).catch((cause: unknown) => {
      throw writingError(settings.out, cause);
    });
    const journal = openJudgementJournal(path, { model: settings.model, prompt: prompt.version }, environment.now);
    try {
      return await judgeAll({ settings, environment, prompt, questions, journal, apiKey });
    } finally {
      journal.close();
    }
  } catch (cause) {
    throw withPlace(cause, path);
  } finally {
    lock.release();
  }
}

function assertOut({ out, responses, prompts, journal }: JudgeSettings): void {
  const read = [...responses, ...prompts];
  for (const [flag, path, others] of [
    ["--out", out, journal === null ? read : [...read, journal]],
    ["--journal", journal, read],
  ] as const) {
    const overwritten = path === null ? undefined : others.find((file) => resolve(file) === resolve(path));
    if (overwritten !== undefined) throw new PolypacaError("USAGE", `${flag} ${path} would overwrite ${overwritten}. Choose another file.`);
  }
}

function withPlace(cause: unknown, journal: string): PolypacaError {
  const error = PolypacaError.from(cause, { during: "judging" });
  if (error.code !== "CANCELLED") return error;
  return new PolypacaError("CANCELLED", `${error.message}; what was answered is kept in ${journal}. Run the same command again to go on.`, {
    cause,
  });
}

interface Work {
  readonly settings: JudgeSettings;
  readonly environment: JudgeEnvironment;
  readonly prompt: JudgePrompt;
  readonly questions: Questions;
  readonly journal: JudgementJournal;
  readonly apiKey: string;
}

async function judgeAll(work: Work): Promise<JudgeSummary> {
  const { settings, prompt, questions } = work;
  const { model, out, priceInput, priceOutput } = settings;
  const name = settings.judge ?? model;
  const meter = new UsageMeter(priceInput === null && priceOutput === null ? null : { input: priceInput ?? 0, output: priceOutput ?? 0 });
  noteRequestsInFlight(work);
  const missing = questions.questions.filter(({ hash }) => isMissing(work, hash));
  const { judged, failures } = await askAll(work, missing, meter);
  const counts = { unparsable: 0, failed: 0 };
  await writeFileAtomic(out, outputLines(work, name, failures, counts));
  const { length: rows } = questions.rows;
  return {
    ...{ out, judge: name, model, promptVersion: prompt.version, rows, judged, reused: rows - judged - counts.failed, ...counts },
    usage: meter.total(),
  };
}

function isMissing({ journal, settings }: Work, hash: string): boolean {
  return settings.retryUnparsable ? (journal.answer(hash)?.rating ?? null) === null : !journal.has(hash);
}

const mostListed = 5;

/** A killed run's requests may have been carried out and charged: a service that honours the key answers them from what it did then. */
function noteRequestsInFlight({ journal, questions, environment, settings }: Work): void {
  if (settings.batch) return; // its requests are found through the list of batches
  const inFlight = new Set(journal.inFlight());
  const found = questions.questions.filter(({ hash }) => inFlight.has(hash) && !journal.has(hash));
  if (found.length === 0) return;
  const listed = found.slice(0, mostListed).map(({ row }) => describePair(row.response));
  const more = found.length > mostListed ? ` and ${found.length - mostListed} more` : "";
  const were = found.length === 1 ? "1 request was" : `${found.length} requests were`;
  environment.note(`${were} under way when the last run ended, and made again with the same Idempotency-Key: ${listed.join("; ")}${more}`);
}

type Asked = Pick<Tally, "judged" | "failures">;

async function askAll(work: Work, missing: readonly Question[], meter: UsageMeter): Promise<Asked> {
  if (missing.length === 0) return { judged: 0, failures: new Map() };
  const { settings, environment, journal, prompt } = work;
  const { length: total } = work.questions.questions;
  const start = total - missing.length;
  const progress = environment.openProgress({ label: "judged", start, total });
  const tally = new Tally({ journal, meter, progress, start, now: environment.now });
  const stopping = new Stopping(environment.signal);
  try {
    const { now, random } = environment;
    const context = { note: progress.note, now, random, stop: stopping.stop, abort: stopping.abort };
    const endpoint = endpointSettings(work);
    const asking = { questions: missing, prompt, journal, tally, context };
    if (settings.batch) await askInBatches(asking, { ...endpoint, pollMs: environment.batchPollMs ?? 30_000, batchSize: 50_000 });
    else await askLive(asking, endpoint, settings.concurrency, stopping);
    return tally;
  } finally {
    progress.stop();
    stopping.release();
  }
}

function endpointSettings({ settings, apiKey, environment }: Work) {
  const { model, baseUrl, responseFormat, temperature, requestsPerMinute, tokensPerMinute, timeout, maxRetries } = settings;
  const retry = { ...(environment.retry ?? defaultRetryPolicy), maxRetries };
  return { model, baseUrl, apiKey, responseFormat, temperature, requestsPerMinute, tokensPerMinute, timeoutMs: 1000 * timeout, retry };
}

/** @param counts is filled in on the way */
function* outputLines(
  work: Work,
  judgeName: string,
  failures: ReadonlyMap<string, string>,
  counts: { unparsable: number; failed: number },
): Generator<string> {
  const isRepeated = work.settings.repeat > 1;
  for (const row of work.questions.rows) {
    const answer = work.journal.answer(row.hash);
    if (answer === undefined) counts.failed++;
    else if (answer.rating === null) counts.unparsable++;
    const judgement = answer ?? { rating: null, explanation: null, raw: null, error: failures.get(row.hash) };
    yield `${JSON.stringify({ ...identityOf(row, isRepeated), judge: judgeName, promptVersion: work.prompt.version, ...judgement })}\n`;
  }
}

function identityOf({ response: { id, language, system }, repeat }: JudgementRow, isRepeated: boolean) {
  return { id, language, system, ...(isRepeated && { repeat }) };
}
