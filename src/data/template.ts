import { readFile } from "node:fs/promises";
import { PolypacaError } from "../errors.js";

/** How a record becomes the text before its response; the study's JSON form in camelCase. */
export interface PromptTemplate {
  /** With `{instruction}` and `{input}`. */
  readonly promptInput: string;
  /** With `{instruction}`: for records whose input is empty. */
  readonly promptNoInput: string;
  /** The response is what follows this. */
  readonly responseSplit: string;
}

export interface PromptParts {
  readonly instruction: string;
  /** Empty or absent: none. */
  readonly input?: string;
}

const withInput =
  "Below is an instruction that describes a task, paired with an input that provides further context. " +
  "Write a response that appropriately completes the request.\n\n" +
  "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:";
const withoutInput =
  "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n" +
  "### Instruction:\n{instruction}\n\n### Response:";

/** The two Alpaca templates: alpaca-lora's ends with a line break (LoRA), Stanford's does not (full-parameter fine-tuning). */
export const alpacaTemplates = {
  lora: { promptInput: `${withInput}\n`, promptNoInput: `${withoutInput}\n`, responseSplit: "### Response:" },
  fft: { promptInput: withInput, promptNoInput: withoutInput, responseSplit: "### Response:" },
} as const satisfies Record<"lora" | "fft", PromptTemplate>;

/** The text before the response. Braces are read as Python's str.format does: `{{` is a brace, what is filled in is not read again. */
export function renderPrompt(template: PromptTemplate, { instruction, input = "" }: PromptParts): string {
  const form = input === "" ? template.promptNoInput : template.promptInput;
  return form.replace(/\{\{|\}\}|\{instruction\}|\{input\}/g, (found) => {
    if (found === "{instruction}") return instruction;
    return found === "{input}" ? input : found[0]!;
  });
}

/**
 * The response in a text that may begin with the prompt: what follows the first `responseSplit` (all of it where there is none),
 * cut at a following heading ("\n### "), without white space around it. As the study's generate.py.
 */
export function extractResponse(text: string, template: PromptTemplate): string {
  const split = text.indexOf(template.responseSplit);
  const response = split < 0 ? text : text.slice(split + template.responseSplit.length);
  const heading = response.indexOf("\n### ");
  return (heading < 0 ? response : response.slice(0, heading)).trim();
}

/**
 * Reads a template in the study's JSON form: `prompt_input`, `prompt_no_input`, `response_split` (and `description`, not used).
 *
 * @throws PolypacaError `NOT_FOUND`, `BAD_TEMPLATE`
 */
export async function readTemplate(file: string): Promise<PromptTemplate> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw PolypacaError.from(cause);
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new PolypacaError("BAD_TEMPLATE", `${file}: not valid JSON (${cause instanceof Error ? cause.message : String(cause)}).`, {
      cause,
    });
  }
  const template = {
    promptInput: textField(value, "prompt_input", file),
    promptNoInput: textField(value, "prompt_no_input", file),
    responseSplit: textField(value, "response_split", file),
  };
  assertPlaceholders(template.promptInput, "prompt_input", ["instruction", "input"], file);
  assertPlaceholders(template.promptNoInput, "prompt_no_input", ["instruction"], file);
  for (const [key, prompt] of [
    ["prompt_input", template.promptInput],
    ["prompt_no_input", template.promptNoInput],
  ] as const) {
    if (!prompt.includes(template.responseSplit)) {
      throw new PolypacaError(
        "BAD_TEMPLATE",
        `${file}: "${key}" does not contain "response_split" (${JSON.stringify(template.responseSplit)}), so no response could be found again.`,
      );
    }
  }
  return template;
}

function textField(value: unknown, key: string, file: string): string {
  const field: unknown = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  if (typeof field === "string" && field !== "") return field;
  throw new PolypacaError(
    "BAD_TEMPLATE",
    `${file}: "${key}" is ${field === undefined ? "missing" : JSON.stringify(field)}, expected a text.`,
  );
}

function assertPlaceholders(prompt: string, key: string, expected: readonly string[], file: string): void {
  const found = [...prompt.replace(/\{\{|\}\}/g, "").matchAll(/\{([^{}]*)\}/g)].map((match) => match[1]!);
  const unknown = found.find((name) => !expected.includes(name));
  if (unknown !== undefined) {
    throw new PolypacaError(
      "BAD_TEMPLATE",
      `${file}: "${key}" has the placeholder {${unknown}}, known are ${expected.map((name) => `{${name}}`).join(" and ")}. Write {{ and }} for braces.`,
    );
  }
  const missing = expected.find((name) => !found.includes(name));
  if (missing !== undefined) throw new PolypacaError("BAD_TEMPLATE", `${file}: "${key}" lacks the placeholder {${missing}}.`);
}
