/** The judge's prompt: an editable file, filled in so that the texts to grade cannot pass for anything else. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { textHash } from "../../endpoint/text-hash.js";
import { PolypacaError } from "../../errors.js";
import { languageName } from "../../language-id/index.js";
import { packageRoot } from "../../native/load.js";

/** What is graded. */
export interface JudgePair {
  /** ISO 639 code of the instruction's language. */
  readonly language: string;
  readonly instruction: string;
  readonly response: string;
}

/** What is sent. */
export interface JudgeMessages {
  /** null: the prompt has no system part. */
  readonly system: string | null;
  readonly user: string;
}

export interface JudgePrompt {
  /** Changes with every change of what would be sent: part of the key under which judgements are kept. */
  readonly version: string;
  readonly fill: (pair: JudgePair) => JudgeMessages;
}

const placeholders = ["language", "mark", "instruction", "response"] as const;
type Placeholder = (typeof placeholders)[number];

/** The prompt that comes with polypaca. */
export function defaultJudgePromptFile(): string {
  return join(packageRoot(), "experiments/judge-prompt.md");
}

/** @throws PolypacaError as {@link parseJudgePrompt}; `NOT_FOUND`, `IO` */
export async function readJudgePrompt(file: string): Promise<JudgePrompt> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new PolypacaError(PolypacaError.from(cause).code, `--prompt-file ${file}: cannot be read (${(cause as Error).message}).`, {
      cause,
    });
  });
  return parseJudgePrompt(text, file);
}

/**
 * A prompt's text. Before the first line of `---` stands the system message, after it the user's; without such a line all is the
 * user's. `{{language}}` stands for the language's English name, `{{instruction}}` and `{{response}}` for the fenced texts, `{{mark}}`
 * for what their fences carry.
 *
 * @param file named in errors
 * @throws PolypacaError `BAD_TEMPLATE` where `{{instruction}}` or `{{response}}` does not stand there exactly once, or another
 *   placeholder does
 */
export function parseJudgePrompt(text: string, file: string): JudgePrompt {
  const template = text.replaceAll("\r\n", "\n").replace(/^\uFEFF/, "");
  const found = [...template.matchAll(placeholder)].map((match) => match[1]!);
  const unknown = found.find((name) => !isPlaceholder(name));
  const known = placeholders.map((name) => `{{${name}}}`).join(", ");
  if (unknown !== undefined) throw new PolypacaError("BAD_TEMPLATE", `${file}: {{${unknown}}} is no placeholder. Known are ${known}.`);
  for (const name of ["instruction", "response"]) {
    const count = found.filter((other) => other === name).length;
    if (count !== 1) throw new PolypacaError("BAD_TEMPLATE", `${file}: {{${name}}} stands there ${count} times, once was expected.`);
  }
  const divider = /^---[ \t]*$/m.exec(template);
  const system = divider === null ? null : template.slice(0, divider.index).trim();
  const user = template.slice(divider === null ? 0 : divider.index + divider[0].length).trim();
  return {
    version: textHash(JSON.stringify([template, fence("…", "…", "…")])),
    fill: (pair) => {
      const values = valuesOf(pair);
      return { system: system === null ? null : fillIn(system, values), user: fillIn(user, values) };
    },
  };
}

const placeholder = /\{\{\s*(\w+)\s*\}\}/g;

function isPlaceholder(name: string): name is Placeholder {
  return (placeholders as readonly string[]).includes(name);
}

/** In one pass: what a text brings along is not filled in. */
function fillIn(template: string, values: Readonly<Record<Placeholder, string>>): string {
  return template.replaceAll(placeholder, (_, name: Placeholder) => values[name]);
}

function valuesOf(pair: JudgePair): Readonly<Record<Placeholder, string>> {
  const mark = markOf(pair);
  return {
    ...{ mark, language: languageName(pair.language) ?? pair.language },
    instruction: fence("INSTRUCTION", pair.instruction, mark),
    response: fence("RESPONSE", pair.response, mark),
  };
}

function fence(name: string, text: string, mark: string): string {
  return `=== BEGIN ${name} ${mark} ===\n${text}\n=== END ${name} ${mark} ===`;
}

/**
 * What the fences carry: a hash of the texts, which no text can hold that is not written after it is known, and which is the same
 * whenever the request is made again.
 */
function markOf({ language, instruction, response }: JudgePair): string {
  const texts = instruction + response;
  for (let turn = 0; ; turn++) {
    const mark = createHash("sha256")
      .update(JSON.stringify([turn, language, instruction, response]))
      .digest("hex")
      .slice(0, 16);
    if (!texts.includes(mark)) return mark;
  }
}
