/** A conversation on a terminal, or with a pipe: one message per line. */
import { createInterface } from "node:readline";
import { PolypacaError } from "../errors.js";
import type { Conversation } from "./conversation.js";

export interface ChatTerminal {
  readonly input: NodeJS.ReadableStream;
  /** Answers, and nothing else where it is no terminal. */
  readonly output: NodeJS.WritableStream;
  /** Whether a person types. */
  readonly isTerminal: boolean;
  /** Each answer is a line of JSON, `{message, answer}`, once it is whole. */
  readonly isJson: boolean;
  /** What is not part of an answer. */
  readonly note: (line: string) => void;
  /** Calls back at each SIGINT of the process; returns what ends that. */
  readonly onInterrupt: (listener: () => void) => () => void;
}

export const chatHelp = [
  "/system TEXT   what stands before the conversation; without a text: nothing. Begins anew",
  "/reset         forgets what was said",
  "/exit          leaves, as Ctrl-D does. Ctrl-C stops an answer, and leaves where there is none",
].join("\n");

/**
 * Until the input ends, or the person leaves.
 *
 * @returns whether it was left by Ctrl-C in the middle of a pipe
 */
export async function runChat(conversation: Conversation, terminal: ChatTerminal): Promise<"ended" | "interrupted"> {
  const { input, output, isTerminal } = terminal;
  const lines = createInterface({ input, ...(isTerminal && { output }), terminal: isTerminal, prompt: "> " });
  const state = { isAnswering: false, isStopped: false, isOver: false };
  const interrupt = (): void => {
    const wasAnswering = state.isAnswering;
    state.isStopped = true;
    if (isTerminal && wasAnswering) return;
    state.isOver = true;
    lines.close();
  };
  const release = terminal.onInterrupt(interrupt);
  lines.on("SIGINT", interrupt); // a terminal in raw mode sends none to the process
  try {
    if (isTerminal) lines.prompt();
    for await (const line of lines) {
      if (state.isOver) break;
      state.isStopped = false;
      state.isAnswering = true;
      const leaves = await respond(line.trim(), conversation, terminal, () => state.isStopped);
      state.isAnswering = false;
      if (leaves || state.isOver) break;
      if (isTerminal) lines.prompt();
    }
  } finally {
    release();
    lines.close();
  }
  return state.isOver && !isTerminal ? "interrupted" : "ended";
}

/** @returns true: the person leaves */
async function respond(line: string, conversation: Conversation, terminal: ChatTerminal, isStopped: () => boolean): Promise<boolean> {
  const { output, note, isJson } = terminal;
  if (line === "") return false;
  if (line.startsWith("/")) return obey(line, conversation, note);
  try {
    let answer = "";
    for await (const text of conversation.answer(line)) {
      answer += text;
      if (!isJson) await write(output, text);
      if (isStopped()) break;
    }
    await write(output, isJson ? `${JSON.stringify({ message: line, answer })}\n` : "\n");
  } catch (cause) {
    const error = PolypacaError.from(cause);
    if (error.code !== "INVALID_ARGUMENT") throw error;
    note(error.message); // of this message; the conversation goes on
  }
  return false;
}

function obey(line: string, conversation: Conversation, note: (line: string) => void): boolean {
  const [, command = "", rest = ""] = /^\/(\S*)\s*(.*)$/.exec(line) ?? [];
  if (command === "exit" || command === "quit") return true;
  if (command === "reset") {
    conversation.reset();
    note(conversation.keepsHistory ? "forgotten" : "there is nothing to forget: each line stands alone");
  } else if (command === "system") {
    conversation.system = rest === "" ? null : rest;
    note(rest === "" ? "no system message" : `system message: ${rest}`);
  } else {
    note(command === "help" ? chatHelp : `there is no command /${command}\n${chatHelp}`);
  }
  return false;
}

function write(output: NodeJS.WritableStream, text: string): Promise<void> {
  return new Promise((resolve, reject) => output.write(text, (cause) => (cause ? reject(cause) : resolve())));
}
