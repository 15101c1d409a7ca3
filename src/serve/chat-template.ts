/** Chat templates in Jinja, as transformers renders them: a model's own, from its folder. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { readJsonObject } from "../checkpoint/json-file.js";
import { PolypacaError } from "../errors.js";
import type { ChatMessage } from "./chat-messages.js";

export interface ChatTemplateSource {
  readonly text: string;
  /** Where it stands, for messages. */
  readonly file: string;
}

/**
 * A folder's chat template: `chat_template.jinja`, else `chat_template` of tokenizer_config.json (of several, the one named
 * "default"); null where there is none.
 *
 * @throws PolypacaError `BAD_CHECKPOINT`, `IO`
 */
export async function readChatTemplate(folder: string): Promise<ChatTemplateSource | null> {
  const file = join(folder, "chat_template.jinja");
  if (existsSync(file)) return { text: await readFile(file, "utf8"), file };
  const config = join(folder, "tokenizer_config.json");
  if (!existsSync(config)) return null;
  const { chat_template: value } = await readJsonObject(config);
  const text = Array.isArray(value) ? value.map(namedTemplate).find((text) => text !== null) : value;
  return typeof text === "string" ? { text, file: config } : null;
}

function namedTemplate(entry: unknown): string | null {
  const { name, template } = (entry ?? {}) as { readonly name?: unknown; readonly template?: unknown };
  return name === "default" && typeof template === "string" ? template : null;
}

/** Texts of special tokens, as the template may use them: `bos_token`, `eos_token`, … */
export type TemplateTokens = Readonly<Record<string, string>>;

/** What a template says to messages that it has no place for. */
class Refusal extends Error {}

export class ChatTemplate {
  readonly #program: Template["parsed"];
  readonly #file: string;

  /** @throws PolypacaError `BAD_TEMPLATE` */
  constructor({ text, file }: ChatTemplateSource) {
    this.#file = file;
    try {
      this.#program = new Template(text).parsed;
    } catch (cause) {
      throw new PolypacaError("BAD_TEMPLATE", `${file}: the chat template is not valid Jinja (${(cause as Error).message}).`, { cause });
    }
  }

  /**
   * The conversation as text, up to where the assistant is to go on.
   *
   * @throws PolypacaError `INVALID_ARGUMENT` where the template refuses the messages; `BAD_TEMPLATE` where it cannot be run
   */
  render(messages: readonly ChatMessage[], tokens: TemplateTokens, now: Date): string {
    const environment = new Environment();
    const values = { ...globals(now), ...tokens, messages, tools: null, documents: null, add_generation_prompt: true };
    for (const [name, value] of Object.entries(values)) environment.set(name, value);
    try {
      return String(new Interpreter(environment).run(this.#program).value);
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      if (cause instanceof Refusal)
        throw new PolypacaError("INVALID_ARGUMENT", `the model's chat template refuses the messages: ${message}`);
      throw new PolypacaError("BAD_TEMPLATE", `${this.#file}: the chat template cannot be run (${message}).`, { cause });
    }
  }
}

/** As transformers' compile_jinja_template has them. */
function globals(now: Date): Readonly<Record<string, unknown>> {
  return {
    ...{ true: true, True: true, false: false, False: false, none: null, None: null },
    raise_exception: (message: unknown): never => {
      throw new Refusal(String(message));
    },
    strftime_now: (format: unknown): string => formatTime(now, String(format)),
    range: (...bounds: readonly number[]): number[] => numbersBetween(bounds),
  };
}

function numbersBetween(bounds: readonly number[]): number[] {
  const [start, stop, step] = bounds.length === 1 ? [0, bounds[0]!, 1] : [bounds[0]!, bounds[1]!, bounds[2] ?? 1];
  const numbers: number[] = [];
  for (let n = start; step > 0 ? n < stop : step < 0 && n > stop; n += step) numbers.push(n);
  return numbers;
}

const months = "January February March April May June July August September October November December".split(" ");
const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** Python's strftime in the C locale, as far as templates go; other codes stay as they are. */
export function formatTime(time: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, "0");
  const parts: Readonly<Record<string, string>> = {
    ...{ Y: String(time.getFullYear()), y: two(time.getFullYear() % 100), m: two(time.getMonth() + 1), d: two(time.getDate()) },
    ...{ B: months[time.getMonth()]!, b: months[time.getMonth()]!.slice(0, 3) },
    ...{ A: days[time.getDay()]!, a: days[time.getDay()]!.slice(0, 3) },
    ...{ H: two(time.getHours()), I: two(time.getHours() % 12 || 12), p: time.getHours() < 12 ? "AM" : "PM" },
    ...{ M: two(time.getMinutes()), S: two(time.getSeconds()), "%": "%" },
  };
  return format.replace(/%(.)/g, (code, letter: string) => parts[letter] ?? code);
}
