/** A conversation over a scripted model, on pipes and on something that behaves like a terminal. */
import { PassThrough } from "node:stream";
import { describe, expect, it, vi } from "vitest";
import { Conversation } from "../../src/chat/conversation.js";
import { runChat } from "../../src/chat/terminal-chat.js";
import { alpacaTemplates } from "../../src/data/index.js";
import type { DecoderSpec } from "../../src/families/decoder-spec.js";
import { decodingPresets } from "../../src/generate/decoding.js";
import type { Generated } from "../../src/native/addon-types.js";
import type { ChatMessage } from "../../src/serve/chat-messages.js";
import { type ChatPrompt, studyPrompt } from "../../src/serve/chat-prompt.js";
import { characterTokenizer } from "../data/data-folder.js";

const tokenizer = characterTokenizer();

/** Shows the messages, so that tests see what the model is told. */
const historyPrompt: ChatPrompt = {
  ...{ kind: "chat", form: { stops: [], isTrimmed: false }, stopTokenIds: new Set([tokenizer.encode("¶")[0]!]) },
  encode: (messages: readonly ChatMessage[]) => tokenizer.encode(messages.map(({ role, content }) => `${role}:${content}\n`).join("")),
};

interface Asked {
  readonly prompt: string;
  readonly options: { readonly seed?: number; readonly maxNewTokens?: number };
}

function conversationOf(
  answer: (prompt: string) => string,
  { prompt = historyPrompt, maxPositions = null as number | null, beforeToken = async (): Promise<void> => {} } = {},
) {
  const asked: Asked[] = [];
  const state = { stopped: 0 };
  async function* generate(ids: Int32Array, options: Asked["options"] = {}): AsyncGenerator<number, Generated, undefined> {
    const text = tokenizer.decode(ids);
    asked.push({ prompt: text, options });
    let isDone = false;
    try {
      for (const token of tokenizer.encode(answer(text))) {
        await beforeToken();
        yield token;
      }
      isDone = true;
      return { tokens: new Int32Array(), score: 0, finishReason: "stop" };
    } finally {
      if (!isDone) state.stopped++;
    }
  }
  const positions = maxPositions === null ? { kind: "alibi" } : { kind: "rope", rotaryDim: 4, theta: 1e4 };
  const spec = { positions, maxPositions } as DecoderSpec;
  const conversation = new Conversation({ model: { generate, spec }, tokenizer, prompt, decoding: decodingPresets["paper-lora"], seed: 5 });
  return { conversation, asked, state };
}

/** Talks over pipes: what was answered, and what was noted. */
async function talk(conversation: Conversation, lines: readonly string[], isJson = false) {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const notes: string[] = [];
  let answered = "";
  output.setEncoding("utf8").on("data", (text: string) => {
    answered += text;
  });
  input.end(lines.map((line) => `${line}\n`).join(""));
  const end = await runChat(conversation, {
    input,
    output,
    isTerminal: false,
    isJson,
    note: (line) => notes.push(line),
    onInterrupt: () => () => {},
  });
  return { end, answered, notes };
}

describe("on pipes", () => {
  it("each line is a message, and only answers are written", async () => {
    const { conversation, asked } = conversationOf((prompt) => `${prompt.split("\n").length - 1} turns`);
    const { end, answered } = await talk(conversation, ["Hi", "", "  Bye  "]);
    expect([end, answered]).toEqual(["ended", "1 turns\n3 turns\n"]);
    expect(asked[1]!.prompt).toBe("user:Hi\nassistant:1 turns\nuser:Bye\n");
    expect(asked.map(({ options }) => options.seed)).toEqual([5, 6]);
  });

  it("with the study's template each line stands alone, and answers end as generate's", async () => {
    const prompt = studyPrompt(alpacaTemplates.lora, tokenizer);
    const { conversation, asked } = conversationOf(() => "\n An answer. \n### Instruction:\nmore", { prompt });
    expect(conversation.keepsHistory).toBe(false);
    expect((await talk(conversation, ["One", "Two"])).answered).toBe("An answer.\nAn answer.\n");
    expect(asked[1]!.prompt).not.toContain("One");
  });

  it("/system stands before the conversation and begins it anew, /reset forgets it, /exit leaves", async () => {
    const { conversation, asked } = conversationOf(() => "ok");
    const { answered, notes } = await talk(conversation, ["/system Be brief.", "a", "/reset", "b", "/system", "c", "/exit", "d"]);
    expect(asked.map(({ prompt }) => prompt)).toEqual(["system:Be brief.\nuser:a\n", "system:Be brief.\nuser:b\n", "user:c\n"]);
    expect(answered).toBe("ok\nok\nok\n");
    expect(notes).toEqual(["system message: Be brief.", "forgotten", "no system message"]);
  });

  it("with --json each answer is a line of JSON", async () => {
    const { conversation } = conversationOf(() => "two\nlines");
    const { answered } = await talk(conversation, ["a", "/reset", "b"], true);
    const rows = answered.trimEnd().split("\n");
    expect(rows.map((row) => JSON.parse(row))).toEqual([
      { message: "a", answer: "two\nlines" },
      { message: "b", answer: "two\nlines" },
    ]);
  });

  it("an unknown command is explained and asks nothing", async () => {
    const { conversation, asked } = conversationOf(() => "ok");
    expect((await talk(conversation, ["/rest"])).notes.join()).toMatch(/no command \/rest\n.*\/reset +forgets/s);
    expect(asked).toEqual([]);
  });

  it("a turn's own end token ends an answer", async () => {
    const { conversation, state } = conversationOf(() => "done¶ and more");
    expect((await talk(conversation, ["Hi"])).answered).toBe("done\n");
    expect(state.stopped).toBe(1);
  });

  it("a conversation that is too long says so and goes on", async () => {
    const { conversation, asked } = conversationOf(() => "ok", { maxPositions: 40 });
    const { answered, notes } = await talk(conversation, ["x".repeat(20), "y".repeat(20), "/reset", "z"]);
    expect(answered).toBe("ok\nok\n");
    expect(notes[0]).toMatch(/65 tokens, the model 40 positions\. Begin anew with \/reset/);
    expect(asked[0]!.options.maxNewTokens).toBe(14);
  });
});

describe("on a terminal", () => {
  const ctrlC = "\u0003";

  function openTerminal(conversation: Conversation) {
    const [input, output] = [new PassThrough(), new PassThrough()];
    const shown = { text: "" };
    output.setEncoding("utf8").on("data", (text: string) => {
      shown.text += text;
    });
    const ended = runChat(conversation, { input, output, isTerminal: true, isJson: false, note: () => {}, onInterrupt: () => () => {} });
    const see = (text: string): Promise<void> => vi.waitFor(() => expect(shown.text).toContain(text));
    return { input, shown, ended, see };
  }

  it("Ctrl-C stops an answer, which stays said, and leaves where there is none", async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let tokens = 0;
    const beforeToken = (): Promise<void> => (++tokens > 3 ? held : Promise.resolve());
    const { conversation, asked, state } = conversationOf(() => "abcdef", { beforeToken });
    const { input, ended, see } = openTerminal(conversation);
    input.write("Hi\r");
    await see("abc");
    input.write(ctrlC);
    release();
    await vi.waitFor(() => expect(state.stopped).toBe(1));
    await see("abcd\n");
    input.write("Go on\r");
    await vi.waitFor(() => expect(asked).toHaveLength(2));
    expect(asked[1]!.prompt).toBe("user:Hi\nassistant:abcd\nuser:Go on\n");
    await see("abcdef\n");
    input.write(ctrlC);
    expect(await ended).toBe("ended");
  });

  it("Ctrl-D leaves", async () => {
    const { input, ended } = openTerminal(conversationOf(() => "").conversation);
    input.write("\u0004");
    expect(await ended).toBe("ended");
  });
});
