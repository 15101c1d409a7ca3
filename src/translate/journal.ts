/**
 * What has been translated, appended as it comes: nothing in it is ever asked for again.
 *
 * A file per target language, JSONL, lines of four kinds:
 *
 *     {"provider":"openai","model":"…","source":"en","target":"fi"}   what the lines after it belong to
 *     {"sent":"<hash>","attempt":1}                                   asked for; attempt 0 is not written out
 *     {"hash":"<hash>","text":"…","attempt":1,"tokens":[41,9]}        its translation
 *     {"failed":"<hash>","reason":"…","attempt":1}                    no translation; the next run asks with the next attempt
 *
 * A segment's key is thus its provider, model, language pair and the hash of its text. The latest translation of a key counts.
 *
 * What can be lost. A kill: nothing, since a line is handed to the operating system in one piece before anything else is done with the
 * answer. A power cut: what came in the last {@link syncEveryMs} milliseconds, as the file is synced only so often; those segments are
 * asked for again with the same Idempotency-Key.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import { z } from "zod";
import { appendFully, syncAppended } from "../checkpoint/append.js";
import { writingError } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import type { LanguagePair, TokenUsage } from "./providers/provider.js";

export interface JournalScope extends LanguagePair {
  readonly provider: string;
  readonly model: string;
}

export const syncEveryMs = 5_000;

/** As far as other than one translation and nothing under way. */
interface SegmentState {
  /** Of the request that is made next, or was under way when the process ended. */
  attempt: number;
  translations: number;
  isSent: boolean;
}

const untouched: SegmentState = { attempt: 0, translations: 0, isSent: false };

export class Journal {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #scope: JournalScope;
  readonly #now: () => number;
  /** Where in the file the line with the latest translation begins: the texts of a language would take 100 MB. */
  readonly #lines = new Map<string, number>();
  /** Only of segments that are not settled by one first answer: most are, and memory counts. */
  readonly #states = new Map<string, SegmentState>();
  #bytes: number;
  #isScopeWritten: boolean;
  #syncedAt: number;

  private constructor(path: string, descriptor: number, scope: JournalScope, now: () => number) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#scope = scope;
    this.#now = now;
    this.#syncedAt = now();
    this.#bytes = 0;
    this.#isScopeWritten = false;
  }

  /**
   * Opens `path`, making it where there is none, and reads what it has of `scope`. A last line that a kill cut off is cut off the file.
   *
   * @param now milliseconds
   * @throws PolypacaError `BAD_RECORD` naming file and line where another line is broken; `IO`, `DISK_FULL`
   */
  static open(path: string, scope: JournalScope, now: () => number): Journal {
    let descriptor: number;
    try {
      descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o666);
    } catch (cause) {
      throw writingError(path, cause);
    }
    try {
      const journal = new Journal(path, descriptor, scope, now);
      journal.#read();
      return journal;
    } catch (cause) {
      closeSync(descriptor);
      throw writingError(path, cause);
    }
  }

  has(hash: string): boolean {
    return this.#lines.has(hash);
  }

  /** @returns undefined where it has not been translated */
  translation(hash: string): string | undefined {
    const offset = this.#lines.get(hash);
    return offset === undefined ? undefined : (JSON.parse(lineAt(this.#descriptor, offset)) as { readonly text: string }).text;
  }

  /** How often it has been translated; more than once after `--retry`. */
  translations(hash: string): number {
    return this.#states.get(hash)?.translations ?? (this.#lines.has(hash) ? 1 : 0);
  }

  /** Hashes of the requests that were under way when an earlier process ended. */
  inFlight(): string[] {
    return [...this.#states].filter(([, { isSent }]) => isSent).map(([hash]) => hash);
  }

  /** The same for the same request, also after a kill; another one for each attempt. */
  idempotencyKey(hash: string): string {
    const { provider, model, source, target } = this.#scope;
    const key = JSON.stringify([provider, model, source, target, hash, this.#nextAttempt(hash)]);
    return `polypaca-${createHash("sha256").update(key).digest("hex").slice(0, 40)}`;
  }

  /** To be called before the request is made. */
  sent(hash: string): void {
    const attempt = this.#nextAttempt(hash);
    this.#append({ sent: hash, ...(attempt > 0 && { attempt }) });
    this.#states.set(hash, { attempt, translations: this.translations(hash), isSent: true });
  }

  answered(hash: string, text: string, usage: TokenUsage | null): void {
    const attempt = this.#nextAttempt(hash);
    const tokens = usage === null ? {} : { tokens: [usage.inputTokens, usage.outputTokens] };
    const offset = this.#append({ hash, text, ...(attempt > 0 && { attempt }), ...tokens });
    this.#settle(hash, offset, attempt);
  }

  failed(hash: string, reason: string): void {
    const attempt = this.#nextAttempt(hash);
    this.#append({ failed: hash, reason, ...(attempt > 0 && { attempt }) });
    this.#fail(hash, attempt);
  }

  /** A place to go back to. */
  mark(): number {
    return this.#bytes;
  }

  /** Takes back all that was appended since `mark`; the journal is of no use afterwards but to be closed. */
  discardSince(mark: number): void {
    try {
      ftruncateSync(this.#descriptor, mark);
    } catch (cause) {
      throw writingError(this.#path, cause);
    }
    this.#bytes = mark;
  }

  close(): void {
    try {
      if (this.#isScopeWritten) syncAppended(this.#descriptor, this.#path);
    } finally {
      closeSync(this.#descriptor);
    }
  }

  /** The attempt of the request that is under way, else the next one. */
  #nextAttempt(hash: string): number {
    return this.#states.get(hash)?.attempt ?? (this.#lines.has(hash) ? 1 : 0);
  }

  #settle(hash: string, offset: number, attempt: number): void {
    const translations = this.translations(hash) + 1;
    this.#lines.set(hash, offset);
    if (attempt === 0) this.#states.delete(hash);
    else this.#states.set(hash, { attempt: attempt + 1, translations, isSent: false });
  }

  #fail(hash: string, attempt: number): void {
    this.#states.set(hash, { ...untouched, attempt: attempt + 1, translations: this.translations(hash) });
  }

  /** @returns where the line begins */
  #append(line: object): number {
    const scope = Buffer.from(this.#isScopeWritten ? "" : `${JSON.stringify(this.#scope)}\n`);
    const offset = this.#bytes + scope.length;
    const bytes = Buffer.concat([scope, Buffer.from(`${JSON.stringify(line)}\n`)]);
    appendFully(this.#descriptor, bytes, this.#path);
    this.#isScopeWritten = true;
    this.#bytes += bytes.length;
    if (this.#now() - this.#syncedAt >= syncEveryMs) {
      syncAppended(this.#descriptor, this.#path);
      this.#syncedAt = this.#now();
    }
    return offset;
  }

  #read(): void {
    const { size } = fstatSync(this.#descriptor);
    let isOurs = false;
    for (const { text, number, start, end } of wholeLines(this.#descriptor, size)) {
      const line = this.#parse(text, number);
      this.#bytes = end;
      if ("provider" in line) isOurs = sameScope(line, this.#scope);
      else if (isOurs) this.#take(line, start);
    }
    // Appending may go on under the last scope of the file.
    this.#isScopeWritten = isOurs;
    if (this.#bytes < size) ftruncateSync(this.#descriptor, this.#bytes);
  }

  #take(line: Exclude<JournalLine, JournalScope>, offset: number): void {
    const { attempt = 0 } = line;
    if ("hash" in line) this.#settle(line.hash, offset, attempt);
    else if ("failed" in line) this.#fail(line.failed, attempt);
    else this.#states.set(line.sent, { attempt, translations: this.translations(line.sent), isSent: true });
  }

  #parse(text: string, number: number): JournalLine {
    try {
      return journalLine.parse(JSON.parse(text));
    } catch (cause) {
      const advice =
        'Put a copy of the file back; or, where the line began with {"sent", {"hash" or {"failed", delete it: only what it held is asked for again.';
      throw new PolypacaError("BAD_RECORD", `${this.#path} line ${number}: not a line of a translation journal. ${advice}`, { cause });
    }
  }
}

const attempt = z.int().min(0).optional();
const scopeLine = z.object({ provider: z.string(), model: z.string(), source: z.string(), target: z.string() });
const journalLine = z.union([
  z.object({ hash: z.string(), text: z.string(), attempt }),
  z.object({ sent: z.string(), attempt }),
  z.object({ failed: z.string(), attempt }),
  scopeLine,
]);
type JournalLine = z.infer<typeof journalLine>;

function sameScope(a: JournalScope, b: JournalScope): boolean {
  return a.provider === b.provider && a.model === b.model && a.source === b.source && a.target === b.target;
}

const firstRead = Buffer.alloc(4096);

/** The line that begins at `offset`, without its line break. */
function lineAt(descriptor: number, offset: number): string {
  for (let buffer = firstRead; ; buffer = Buffer.alloc(4 * buffer.length)) {
    const read = readSync(descriptor, buffer, 0, buffer.length, offset);
    const end = buffer.subarray(0, read).indexOf(0x0a);
    if (end >= 0) return buffer.toString("utf8", 0, end);
    if (read < buffer.length)
      throw new PolypacaError("IO", `the journal was changed while it was read (at byte ${offset}). Run the command again.`);
  }
}

interface FileLine {
  readonly text: string;
  /** From 1. */
  readonly number: number;
  /** Offsets of its first byte, and behind its line break. */
  readonly start: number;
  readonly end: number;
}

/** The lines of the first `size` bytes that end with a line break, read piece by piece. */
function* wholeLines(descriptor: number, size: number): Generator<FileLine> {
  let rest: Buffer = Buffer.alloc(0);
  let number = 0;
  let end = 0;
  const piece = Buffer.alloc(1 << 20);
  for (let at = 0; at < size; ) {
    const read = readSync(descriptor, piece, 0, Math.min(piece.length, size - at), at);
    if (read === 0) return;
    at += read;
    const bytes = Buffer.concat([rest, piece.subarray(0, read)]);
    let from = 0;
    for (let to = bytes.indexOf(0x0a); to >= 0; to = bytes.indexOf(0x0a, from)) {
      const start = end;
      end += to + 1 - from;
      yield { text: bytes.toString("utf8", from, to), number: ++number, start, end };
      from = to + 1;
    }
    rest = bytes.subarray(from);
  }
}
