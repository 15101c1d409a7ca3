/**
 * What a paid service has answered, appended as it comes: nothing in it is ever asked for again.
 *
 * JSONL, lines of four kinds:
 *
 *     {"provider":"openai","model":"…"}                               what the lines after it belong to: the scope
 *     {"sent":"<hash>","attempt":1}                                   asked for; attempt 0 is not written out
 *     {"hash":"<hash>","text":"…","attempt":1,"tokens":[41,9]}        its answer, here {"text"}
 *     {"failed":"<hash>","reason":"…","attempt":1}                    no answer; the next run asks with the next attempt
 *
 * A question's key is thus its scope and the hash of its content. The latest answer of a key counts.
 *
 * What can be lost. A kill: nothing, since a line is handed to the operating system in one piece before anything else is done with the
 * answer. A power cut: what came in the last {@link syncEveryMs} milliseconds, as the file is synced only so often; those questions are
 * asked again with the same Idempotency-Key.
 */
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from "node:fs";
import { z } from "zod";
import { appendFully, syncAppended } from "../checkpoint/append.js";
import { writingError } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import type { TokenUsage } from "./request.js";

/** What a journal is about. */
export interface JournalFormat<Field extends string, Answer extends object> {
  /** For messages: "translation journal". */
  readonly name: string;
  /** Of the scope, in the order in which they are written and hashed. */
  readonly scopeFields: readonly Field[];
  /** Fields of an answer; "hash", "attempt" and "tokens" are taken. */
  readonly answer: z.ZodObject & z.ZodType<Answer>;
}

/** What the answers of a journal's part belong to: model, languages, whatever makes the same question another one. */
export type JournalScope<Field extends string> = Readonly<Record<Field, string>>;

export const syncEveryMs = 5_000;

/** As far as other than one answer and nothing under way. */
interface QuestionState {
  /** Of the request that is made next, or was under way when the process ended. */
  attempt: number;
  answers: number;
  isSent: boolean;
}

const untouched: QuestionState = { attempt: 0, answers: 0, isSent: false };

export class Journal<Answer extends object> {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #format: JournalFormat<string, Answer>;
  readonly #lineSchema: z.ZodType<JournalLine>;
  /** Values of the format's fields. */
  readonly #scope: readonly string[];
  readonly #now: () => number;
  /** Where in the file the line with the latest answer begins: the texts of a language would take 100 MB. */
  readonly #lines = new Map<string, number>();
  /** Only of questions that are not settled by one first answer: most are, and memory counts. */
  readonly #states = new Map<string, QuestionState>();
  #bytes: number;
  #isScopeWritten: boolean;
  #syncedAt: number;

  private constructor(
    path: string,
    descriptor: number,
    format: JournalFormat<string, Answer>,
    scope: readonly string[],
    now: () => number,
  ) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#format = format;
    this.#lineSchema = lineSchema(format);
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
  static open<Field extends string, Answer extends object>(
    path: string,
    format: JournalFormat<Field, Answer>,
    scope: JournalScope<Field>,
    now: () => number,
  ): Journal<Answer> {
    let descriptor: number;
    try {
      descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND, 0o666);
    } catch (cause) {
      throw writingError(path, cause);
    }
    try {
      const values = format.scopeFields.map((field) => scope[field]);
      const journal = new Journal(path, descriptor, format, values, now);
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

  /** @returns undefined where it has none */
  answer(hash: string): Answer | undefined {
    const offset = this.#lines.get(hash);
    return offset === undefined ? undefined : this.#format.answer.parse(JSON.parse(lineAt(this.#descriptor, offset)));
  }

  /** How often it has been answered; more than once where it was asked for again. */
  answers(hash: string): number {
    return this.#states.get(hash)?.answers ?? (this.#lines.has(hash) ? 1 : 0);
  }

  /** Hashes of the requests that were under way when an earlier process ended. */
  inFlight(): string[] {
    return [...this.#states].filter(([, { isSent }]) => isSent).map(([hash]) => hash);
  }

  /** The same for the same request, also after a kill; another one for each attempt. */
  idempotencyKey(hash: string): string {
    const key = JSON.stringify([...this.#scope, hash, this.#nextAttempt(hash)]);
    return `polypaca-${createHash("sha256").update(key).digest("hex").slice(0, 40)}`;
  }

  /** To be called before the request is made. */
  sent(hash: string): void {
    const attempt = this.#nextAttempt(hash);
    this.#append({ sent: hash, ...(attempt > 0 && { attempt }) });
    this.#states.set(hash, { attempt, answers: this.answers(hash), isSent: true });
  }

  answered(hash: string, answer: Answer, usage: TokenUsage | null): void {
    const attempt = this.#nextAttempt(hash);
    const tokens = usage === null ? {} : { tokens: [usage.inputTokens, usage.outputTokens] };
    const offset = this.#append({ hash, ...answer, ...(attempt > 0 && { attempt }), ...tokens });
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
    const answers = this.answers(hash) + 1;
    this.#lines.set(hash, offset);
    if (attempt === 0) this.#states.delete(hash);
    else this.#states.set(hash, { attempt: attempt + 1, answers, isSent: false });
  }

  #fail(hash: string, attempt: number): void {
    this.#states.set(hash, { ...untouched, attempt: attempt + 1, answers: this.answers(hash) });
  }

  /** @returns where the line begins */
  #append(line: object): number {
    const scope = Buffer.from(this.#isScopeWritten ? "" : `${JSON.stringify(this.#scopeLine())}\n`);
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
      if (!isEntry(line)) isOurs = this.#format.scopeFields.every((field, index) => line[field] === this.#scope[index]);
      else if (isOurs) this.#take(line, start);
    }
    if (this.#bytes === 0) this.#assertOurs(size);
    // Appending may go on under the last scope of the file.
    this.#isScopeWritten = isOurs;
    if (this.#bytes < size) ftruncateSync(this.#descriptor, this.#bytes);
  }

  /** A file of one line without an end may be no journal at all: cutting that off would lose it. */
  #assertOurs(size: number): void {
    const expected = `{"${this.#format.scopeFields[0]}":`;
    const bytes = Buffer.alloc(Math.min(size, expected.length));
    readSync(this.#descriptor, bytes, 0, bytes.length, 0);
    // Zeros: what a power cut may leave.
    if (expected.startsWith(bytes.toString()) || bytes.every((byte) => byte === 0)) return;
    throw new PolypacaError("BAD_RECORD", `${this.#path} line 1: not a line of a ${this.#format.name}. Give another file.`);
  }

  #scopeLine(): JournalScope<string> {
    return Object.fromEntries(this.#format.scopeFields.map((field, index) => [field, this.#scope[index]!]));
  }

  #take(line: JournalEntry, offset: number): void {
    const { attempt = 0 } = line;
    if ("hash" in line) this.#settle(line.hash, offset, attempt);
    else if ("failed" in line) this.#fail(line.failed, attempt);
    else this.#states.set(line.sent, { attempt, answers: this.answers(line.sent), isSent: true });
  }

  #parse(text: string, number: number): JournalLine {
    try {
      return this.#lineSchema.parse(JSON.parse(text));
    } catch (cause) {
      const advice =
        'Put a copy of the file back; or, where the line began with {"sent", {"hash" or {"failed", delete it: only what it held is asked for again.';
      throw new PolypacaError("BAD_RECORD", `${this.#path} line ${number}: not a line of a ${this.#format.name}. ${advice}`, { cause });
    }
  }
}

const attempt = z.int().min(0).optional();
const sentLine = z.object({ sent: z.string(), attempt });
const failedLine = z.object({ failed: z.string(), attempt });

type JournalEntry =
  | { readonly hash: string; readonly attempt?: number | undefined }
  | z.infer<typeof sentLine>
  | z.infer<typeof failedLine>;
type JournalLine = JournalEntry | JournalScope<string>;

function lineSchema({ scopeFields, answer }: JournalFormat<string, object>): z.ZodType<JournalLine> {
  const scopeLine = z.strictObject(Object.fromEntries(scopeFields.map((field) => [field, z.string()])));
  return z.union([answer.extend({ hash: z.string(), attempt }), sentLine, failedLine, scopeLine]) as z.ZodType<JournalLine>;
}

function isEntry(line: JournalLine): line is JournalEntry {
  return "hash" in line || "sent" in line || "failed" in line;
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
