/** Any program that reads a line and writes a line, kept running: Marian, CTranslate2, a shell script. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { type RequestContext, RequestFailure } from "../../endpoint/request.js";
import { assertGoing } from "../../endpoint/retry.js";
import { PolypacaError } from "../../errors.js";
import {
  type LanguagePair,
  type LiveProvider,
  MisalignedAnswers,
  type SegmentAnswer,
  type SegmentRequest,
  type TranslationSession,
} from "./provider.js";

export interface CommandSettings {
  /** For the shell; `{source}` and `{target}` stand for the language codes. */
  readonly command: string;
  /** Names the model in the journal; null: the command itself does. */
  readonly model: string | null;
  readonly maxCharacters: number;
  readonly joinSentences: boolean;
  /** Lines in flight. */
  readonly concurrency: number;
  /** Longest silence with lines in flight after which the program counts as hung. */
  readonly timeoutMs: number;
  /**
   * After so long a silence the program's input is ended: one that keeps its output in a buffer writes it out then, and ends. A new one
   * is started for what comes next.
   */
  readonly flushAfterMs: number;
}

/** Ends in turn on the same line after which the program is given up. */
const mostDeaths = 3;

export function commandProvider(settings: CommandSettings): LiveProvider {
  const { command, model, concurrency, maxCharacters, joinSentences } = settings;
  return {
    ...{ kind: "live", name: "command", model: model ?? command, concurrency, maxCharacters, joinSentences },
    mostFailuresInTurn: Number.POSITIVE_INFINITY, // it fails with an error of its own
    open: async (pair, context) => new CommandSession(settings, pair, context),
  };
}

interface Waiting {
  readonly text: string;
  readonly resolve: (answer: SegmentAnswer) => void;
  readonly reject: (cause: unknown) => void;
}

type Program = ChildProcessByStdio<Writable, Readable, Readable>;

/**
 * The n-th line out answers the n-th line in. Lines without an answer when the program ends are given to a new one, in the same order.
 */
class CommandSession implements TranslationSession {
  readonly #settings: CommandSettings;
  readonly #command: string;
  readonly #context: RequestContext;
  /** Written to the program, oldest first. */
  readonly #inFlight: Waiting[] = [];
  /** Not yet written. */
  readonly #queue: Waiting[] = [];
  #program: Program | null = null;
  /** Its input was ended. */
  #isEnding = false;
  #answersOfProgram = 0;
  #deaths = 0;
  #silence: NodeJS.Timeout | null = null;
  #said = "";
  #fault: Error | null = null;

  constructor(settings: CommandSettings, pair: LanguagePair, context: RequestContext) {
    this.#settings = settings;
    this.#command = settings.command.replaceAll("{source}", pair.source).replaceAll("{target}", pair.target);
    this.#context = context;
    context.abort.addEventListener("abort", () => this.abandon(), { once: true });
  }

  async translate({ text }: SegmentRequest): Promise<SegmentAnswer> {
    assertGoing(this.#context.stop);
    if (text.includes("\n")) throw new RequestFailure("it contains a line break, which a program that reads lines cannot take");
    return await new Promise((resolve, reject) => {
      this.#queue.push({ text, resolve, reject });
      this.#feed();
    });
  }

  async end(): Promise<void> {
    const program = this.#program;
    if (program !== null) {
      const ended = new Promise<void>((resolve) => program.once("close", () => resolve()));
      this.#endInput();
      await ended;
    }
    if (this.#fault !== null) throw this.#fault;
  }

  abandon(): void {
    this.#stopWatching();
    this.#kill();
    this.#giveUp(new PolypacaError("CANCELLED", `--command ${JSON.stringify(this.#command)}: stopped`));
  }

  #feed(): void {
    if (this.#fault !== null) {
      this.#giveUp(this.#fault);
      return;
    }
    if (this.#queue.length === 0 || this.#isEnding) return; // a program that ends is followed by a new one
    this.#program ??= this.#start();
    const lines = this.#queue.splice(0);
    this.#inFlight.push(...lines);
    this.#program.stdin.write(lines.map(({ text }) => `${text}\n`).join(""));
    this.#watchSilence();
  }

  #start(): Program {
    // A group of its own: Ctrl-C reaches polypaca alone, which lets the lines in flight come; and what the shell starts ends with it.
    const program = spawn(this.#command, { shell: true, stdio: ["pipe", "pipe", "pipe"], detached: true });
    this.#answersOfProgram = 0;
    this.#said = "";
    const decoder = new StringDecoder("utf8");
    let partial = "";
    program.stdout.on("data", (chunk: Buffer) => {
      const lines = (partial + decoder.write(chunk)).split("\n");
      partial = lines.pop()!;
      for (const line of lines) this.#answer(line);
      if (lines.length > 0) this.#watchSilence();
    });
    program.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-2000);
    });
    program.stdin.on("error", () => {}); // it ended while we wrote: "close" follows
    program.on("error", (cause) => this.#refuse(new PolypacaError("IO", `--command: cannot be started: ${cause.message}`, { cause })));
    program.on("close", (code, signal) => this.#closed(signal ?? `exit code ${code}`));
    return program;
  }

  #answer(line: string): void {
    const waiting = this.#inFlight.shift();
    const text = line.endsWith("\r") ? line.slice(0, -1) : line;
    if (waiting === undefined) {
      const advice = "It has to write one line for each line it reads, and nothing else.";
      this.#refuse(
        new MisalignedAnswers(
          `--command ${JSON.stringify(this.#command)} wrote a line that answers none: ${JSON.stringify(text)}. ${advice}`,
        ),
      );
      return;
    }
    this.#answersOfProgram++;
    this.#deaths = 0;
    waiting.resolve({ text, usage: null });
  }

  #closed(how: string): void {
    this.#stopWatching();
    this.#program = null;
    this.#isEnding = false;
    const unanswered = this.#inFlight.splice(0);
    this.#queue.unshift(...unanswered);
    if (unanswered.length > 0 && this.#fault === null) {
      if (this.#context.stop.aborted) this.#refuse(new PolypacaError("CANCELLED", `--command: stopped (${how})`));
      else this.#died(how, unanswered[0]!);
    }
    this.#feed();
  }

  #died(how: string, { text }: Waiting): void {
    if (this.#answersOfProgram === 0) this.#deaths++;
    const said = this.#said.trim() === "" ? "It wrote nothing to stderr." : `It wrote: ${this.#said.trim().slice(-500)}`;
    const command = JSON.stringify(this.#command);
    if (this.#deaths < mostDeaths) {
      this.#context.note(`command: ${command} ended (${how}) after ${this.#answersOfProgram} answers; started again`);
      return;
    }
    const line = text.length > 200 ? `${text.slice(0, 200)}…` : text;
    const turns = `${mostDeaths} times in turn, the last time with ${how}, without answering the line ${JSON.stringify(line)}`;
    this.#refuse(new PolypacaError("IO", `--command ${command} ended ${turns}. ${said} Try it: echo … | ${this.#command}`));
  }

  /** Ends the session with an error, for the lines in flight and all that follow. */
  #refuse(fault: Error): void {
    this.#fault ??= fault;
    this.#stopWatching();
    this.#kill();
    this.#giveUp(this.#fault);
  }

  #giveUp(cause: Error): void {
    for (const { reject } of [...this.#inFlight.splice(0), ...this.#queue.splice(0)]) reject(cause);
  }

  #watchSilence(): void {
    this.#stopWatching();
    if (this.#isEnding) this.#watch(this.#settings.timeoutMs, () => this.#kill());
    if (this.#inFlight.length === 0 || this.#isEnding) return;
    this.#watch(Math.min(this.#settings.flushAfterMs, this.#settings.timeoutMs), () => {
      this.#context.note(
        `command: silent for ${this.#settings.flushAfterMs / 1000} s with ${this.#inFlight.length} lines in flight; its input is ended, so that it writes what it keeps in a buffer`,
      );
      this.#endInput();
    });
  }

  #endInput(): void {
    this.#isEnding = true;
    this.#program?.stdin.end();
    this.#watchSilence();
  }

  #watch(milliseconds: number, onSilence: () => void): void {
    this.#stopWatching();
    this.#silence = setTimeout(onSilence, milliseconds);
  }

  #stopWatching(): void {
    if (this.#silence !== null) clearTimeout(this.#silence);
    this.#silence = null;
  }

  #kill(): void {
    const pid = this.#program?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // it has ended meanwhile
    }
  }
}
