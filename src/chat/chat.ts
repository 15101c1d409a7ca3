/** `chat`: opens a model and its adapter, and talks. */

import { type DecodingSettings, decodingPresets } from "../generate/decoding.js";
import { describeSystem } from "../generate/describe-system.js";
import type { ComputeDType } from "../native/addon-types.js";
import { Model } from "../native/model.js";
import { openChatPrompt } from "../serve/chat-prompt.js";
import { loadTokenizer } from "../tokenizer/index.js";
import { Conversation } from "./conversation.js";
import { type ChatTerminal, runChat } from "./terminal-chat.js";

export interface ChatSettings {
  readonly model: string;
  readonly adapter: string | null;
  /** The study's JSON form, or a chat template *.jinja; null: the model's own. */
  readonly template: string | null;
  readonly system: string | null;
  /** Replaces single values of the preset that fits the model; one beam in any case. */
  readonly decoding: Partial<DecodingSettings>;
  readonly seed: number;
  readonly device: string;
  readonly dtype: ComputeDType | null;
}

/** @throws PolypacaError for folders, templates and memory as `generate` does */
export async function chat(settings: ChatSettings, terminal: ChatTerminal, now: () => Date): Promise<"ended" | "interrupted"> {
  const { model: dir, adapter } = settings;
  const described = await describeSystem(dir, adapter);
  const tokenizer = await loadTokenizer(dir);
  const prompt = await openChatPrompt({ model: dir, adapter }, settings.template, tokenizer, now);
  const preset = decodingPresets[described.method === "lora" ? "paper-lora" : "paper-fft"];
  const decoding: DecodingSettings = { ...preset, ...settings.decoding, numBeams: 1 };
  const model = await Model.load(dir, { device: settings.device, ...(settings.dtype && { dtype: settings.dtype }) });
  try {
    if (adapter !== null) await model.loadAdapter(adapter);
    const conversation = new Conversation({ model, tokenizer, prompt, decoding, seed: settings.seed });
    if (settings.system !== null) conversation.system = settings.system;
    const memory = conversation.keepsHistory
      ? "answers know what was said before"
      : "each line stands alone: the model was tuned on single instructions and does not see what was said before";
    terminal.note(`${described.system}; ${memory}. /help lists the commands.`);
    return await runChat(conversation, terminal);
  } finally {
    await model.dispose();
  }
}
