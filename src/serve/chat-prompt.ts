/** Chat messages to a prompt's ids, the way the model was tuned: with the study's template, or with the model's own chat template. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readJsonObject } from "../checkpoint/json-file.js";
import { type PromptTemplate, renderPrompt } from "../data/index.js";
import { PolypacaError } from "../errors.js";
import { describeSystem, templateFor } from "../generate/describe-system.js";
import { promptIds } from "../generate/prompt-ids.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { templateFileName } from "../train/template-file.js";
import type { AnswerForm } from "./answer-text.js";
import type { ChatMessage } from "./chat-messages.js";
import { ChatTemplate, type ChatTemplateSource, readChatTemplate, type TemplateTokens } from "./chat-template.js";
import { SpecialTokens, unusedCharacter } from "./special-tokens.js";

export interface ChatPrompt {
  /** The study's template, or a chat template. */
  readonly kind: "study" | "chat";
  /** How an answer begins and ends. */
  readonly form: AnswerForm;
  /** Tokens besides EOS that end an answer. */
  readonly stopTokenIds: ReadonlySet<number>;
  /**
   * The prompt, BOS included where it belongs.
   *
   * @throws PolypacaError `INVALID_ARGUMENT` for messages that the template has no place for, `BAD_TEMPLATE`
   */
  encode(messages: readonly ChatMessage[]): Int32Array;
}

export interface ChatFolders {
  readonly model: string;
  readonly adapter: string | null;
}

/**
 * The way a model or adapter wants its messages: `file` where given (a chat template where its name ends in .jinja, else the study's
 * JSON form); the template that it was tuned with, which polypaca leaves beside the weights; a chat template of its own; the study's.
 *
 * @param now the time that templates may show
 * @throws PolypacaError `NOT_FOUND`, `BAD_TEMPLATE`, `BAD_CHECKPOINT`
 */
export async function openChatPrompt(
  folders: ChatFolders,
  file: string | null,
  tokenizer: Tokenizer,
  now: () => Date,
): Promise<ChatPrompt> {
  const chat = file === null ? await ownChatTemplate(folders) : file.endsWith(".jinja") ? await readTemplateFile(file) : null;
  if (chat === null) {
    const system = await describeSystem(folders.model, folders.adapter);
    return studyPrompt(await templateFor(system, folders, file), tokenizer);
  }
  const tokens = await templateTokens(folders.model, tokenizer);
  return chatTemplatePrompt(chat, { tokenizer, tokens, now, stopTokenIds: await readStopTokenIds(folders.model, tokenizer) });
}

async function ownChatTemplate({ model, adapter }: ChatFolders): Promise<ChatTemplateSource | null> {
  if (existsSync(join(adapter ?? model, templateFileName))) return null;
  return (adapter === null ? null : await readChatTemplate(adapter)) ?? (await readChatTemplate(model));
}

async function readTemplateFile(file: string): Promise<ChatTemplateSource> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new PolypacaError(PolypacaError.from(cause).code, `--template ${file}: cannot be read (${(cause as Error).message}).`, { cause });
  });
  return { text, file };
}

/** The study's models were tuned on single instructions. */
export function studyPrompt(template: PromptTemplate, tokenizer: Tokenizer): ChatPrompt {
  return {
    kind: "study",
    form: { stops: ["\n### "], isTrimmed: true }, // as extractResponse
    stopTokenIds: new Set(),
    encode: (messages) => promptIds(renderPrompt(template, { instruction: instructionOf(messages) }), tokenizer),
  };
}

/** System messages stand before the user's, as its first paragraphs. */
function instructionOf(messages: readonly ChatMessage[]): string {
  const turns = messages.filter(({ role }) => role !== "system");
  if (turns.length !== 1 || turns[0]!.role !== "user") {
    const found = turns.length === 0 ? "there is none" : `there are ${turns.length} messages, the last by the ${turns.at(-1)!.role}`;
    throw new PolypacaError(
      "INVALID_ARGUMENT",
      `this model was tuned on single instructions, so its prompt takes one user message (and system messages), and ${found}. ` +
        "Send the user's last message alone, or serve the model with a chat template (--template FILE.jinja).",
    );
  }
  const system = messages.filter(({ role }) => role === "system");
  return [...system, turns[0]!].map(({ content }) => content).join("\n\n");
}

interface TemplateContext {
  readonly tokenizer: Tokenizer;
  readonly tokens: TemplateTokens;
  readonly now: () => Date;
  readonly stopTokenIds: ReadonlySet<number>;
}

function chatTemplatePrompt(source: ChatTemplateSource, { tokenizer, tokens, now, stopTokenIds }: TemplateContext): ChatPrompt {
  const template = new ChatTemplate(source);
  const specialTokens = new SpecialTokens(tokenizer);
  return {
    kind: "chat",
    form: { stops: [], isTrimmed: false },
    stopTokenIds,
    encode: (messages) => {
      const mark = unusedCharacter([source.text, ...messages.map(({ content }) => content)]);
      const guarded = messages.map((message) => ({ ...message, content: specialTokens.guard(message.content, mark) }));
      return specialTokens.encode(template.render(guarded, tokens, now()), mark);
    },
  };
}

/** `bos_token` and its like, of tokenizer_config.json; BOS and EOS of the vocabulary where that is silent. */
async function templateTokens(folder: string, tokenizer: Tokenizer): Promise<TemplateTokens> {
  const file = join(folder, "tokenizer_config.json");
  const config = existsSync(file) ? await readJsonObject(file) : {};
  const tokens: Record<string, string> = {};
  for (const [name, id] of [
    ["bos_token", tokenizer.bosTokenId],
    ["eos_token", tokenizer.eosTokenId],
    ["unk_token", null],
    ["pad_token", null],
  ] as const) {
    const value = config[name];
    const content = typeof value === "object" && value !== null && "content" in value ? value.content : value;
    const text = typeof content === "string" ? content : id === null ? undefined : tokenizer.piece(id);
    if (text !== undefined) tokens[name] = text;
  }
  return tokens;
}

/** Chat models often end a turn with another token than a text: generation_config.json lists them. */
async function readStopTokenIds(folder: string, tokenizer: Tokenizer): Promise<ReadonlySet<number>> {
  const listed = await Promise.all(
    ["config.json", "generation_config.json"].map(async (name) => {
      const file = join(folder, name);
      return existsSync(file) ? (await readJsonObject(file)).eos_token_id : undefined;
    }),
  );
  const ids = listed.flat().filter((id): id is number => typeof id === "number" && id !== tokenizer.eosTokenId);
  return new Set(ids);
}
