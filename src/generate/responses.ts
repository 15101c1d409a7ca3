/** The responses file: JSONL, a row per (system, language, id), appended as results come, each row exactly once. */
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { appendFully, syncAppended } from "../checkpoint/append.js";
import { PolypacaError } from "../errors.js";

export interface ResponseRow {
  /** The same id stands in every language. */
  readonly id: string | number;
  readonly language: string;
  readonly system: string;
  /** Name of the base model. */
  readonly model: string;
  readonly method: "lora" | "fft" | "base";
  readonly condition: string | null;
  readonly seed: number | null;
  readonly prompt: string;
  readonly response: string;
  /** New tokens, EOS included. */
  readonly tokens: number;
  readonly finishReason: "stop" | "length";
}

export function rowKey(row: Pick<ResponseRow, "system" | "language" | "id">): string {
  return JSON.stringify([row.system, row.language, row.id]);
}

/** Appends rows that are not there yet. */
export class ResponsesFile {
  readonly #descriptor: number;
  readonly #path: string;
  readonly #keys: Set<string>;

  private constructor(descriptor: number, path: string, keys: Set<string>) {
    this.#descriptor = descriptor;
    this.#path = path;
    this.#keys = keys;
  }

  /**
   * Opens `path`, creating it where there is none. A last line that a kill cut off is dropped, to be generated again.
   *
   * @throws PolypacaError `BAD_RECORD` naming the line where it holds something else; `IO`, `DISK_FULL`
   */
  static open(path: string): ResponsesFile {
    try {
      mkdirSync(dirname(path), { recursive: true });
      const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
      const complete = bytes.lastIndexOf(0x0a) + 1;
      const keys = new Set(parseRows(bytes.toString("utf8", 0, complete), path).map(rowKey));
      const descriptor = openSync(path, "a");
      ftruncateSync(descriptor, complete);
      return new ResponsesFile(descriptor, path, keys);
    } catch (cause) {
      const error = PolypacaError.from(cause);
      if (error.code === "BAD_RECORD") throw error;
      throw new PolypacaError(error.code, `--out ${path}: cannot be written (${error.message}).`, { cause });
    }
  }

  has(row: Pick<ResponseRow, "system" | "language" | "id">): boolean {
    return this.#keys.has(rowKey(row));
  }

  append(row: ResponseRow): void {
    if (this.has(row)) return;
    appendFully(this.#descriptor, `${JSON.stringify(row)}\n`, this.#path);
    this.#keys.add(rowKey(row));
  }

  close(): void {
    try {
      syncAppended(this.#descriptor, this.#path);
    } finally {
      closeSync(this.#descriptor);
    }
  }
}

function parseRows(text: string, path: string): ResponseRow[] {
  return text
    .split("\n")
    .slice(0, -1)
    .map((line, index) => {
      try {
        const row = JSON.parse(line) as ResponseRow;
        if (typeof row.system === "string" && typeof row.language === "string" && row.id !== undefined) return row;
      } catch {
        // reported below, with the lines that are JSON of something else
      }
      const advice = "Use another --out, or remove the line.";
      throw new PolypacaError("BAD_RECORD", `${path} line ${index + 1}: not a response row (system, language and id). ${advice}`);
    });
}
