/** Judging over a real server: its task, files of responses, and the checks that all tests share. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { JudgeEnvironment } from "../../../src/evaluate/judge/judge.js";
import { type JudgeSettings, resolveJudgeSettings } from "../../../src/evaluate/judge/settings.js";
import { startCli } from "../../cli/run-cli.js";
import { type ChatServer, type ChatServerOptions, startChatServer, type Task } from "../../endpoint/chat-server.js";

/** The rating that the server gives to a response. */
export function ratingOf(response: string): number {
  return 1 + (response.length % 3);
}

export const judgingTask: Task = {
  read: (messages) => {
    const user = messages.at(-1)!.content;
    const [, mark] = /^=== BEGIN RESPONSE (\w+) ===$/m.exec(user)!;
    const [before, after] = [`=== BEGIN RESPONSE ${mark} ===\n`, `\n=== END RESPONSE ${mark} ===`];
    const text = user.slice(user.indexOf(before) + before.length, user.lastIndexOf(after));
    return { text, target: /The instruction is in (\w+)/.exec(messages[0]!.content)?.[1] ?? "" };
  },
  answer: (text) => JSON.stringify({ explanation: `because of ${text.slice(0, 10)}`, rating: ratingOf(text) }),
};

export function startJudgeServer(options: Omit<ChatServerOptions, "task"> = {}): Promise<ChatServer> {
  return startChatServer({ task: judgingTask, ...options });
}

export interface Row {
  readonly id: string;
  readonly language: string;
  readonly system: string;
  readonly prompt?: string;
  readonly response: string;
}

/** `count` rows of two systems in two languages; no two responses are equal. */
export function responseRows(count: number): Row[] {
  return Array.from({ length: count }, (_, i) => ({
    ...{ id: String(Math.floor(i / 4)), language: i % 2 === 0 ? "en" : "fi", system: i % 4 < 2 ? "a" : "b" },
    ...{ prompt: `Question ${Math.floor(i / 4)}?`, response: `Answer ${i}${".".repeat(i % 3)}` },
  }));
}

export function writeRows(folder: string, rows: readonly object[], name = "responses.jsonl"): string {
  const file = join(folder, name);
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return file;
}

export interface OutputRow {
  readonly id: string;
  readonly language: string;
  readonly system: string;
  readonly repeat?: number;
  readonly judge: string;
  readonly rating: number | null;
  readonly explanation: string | null;
  readonly raw: string | null;
  readonly error?: string;
}

export function readOutput(file: string): OutputRow[] {
  const text = readFileSync(file, "utf8");
  expect(text.endsWith("\n")).toBe(true);
  return text
    .slice(0, -1)
    .split("\n")
    .map((line) => JSON.parse(line) as OutputRow);
}

export function settingsFor(server: Pick<ChatServer, "url">, responses: string, out: string, more: Partial<JudgeSettings> = {}) {
  return resolveJudgeSettings({}, { responses: [responses], out, model: "m", baseUrl: server.url, concurrency: 4, timeout: 5, ...more });
}

export interface TestEnvironment extends JudgeEnvironment {
  readonly notes: readonly string[];
}

/** Retries at once; notes of the progress display are kept too. */
export function testEnvironment(signal?: AbortSignal): TestEnvironment {
  const notes: string[] = [];
  const note = (line: string): void => void notes.push(line);
  return {
    ...{ notes, note, now: Date.now, random: () => 0, variables: { OPENAI_API_KEY: "secret" }, ...(signal && { signal }) },
    openProgress: () => ({ update: () => {}, note, stop: () => {} }),
    retry: { maxRetries: 8, maxBadAnswers: 2, firstDelayMs: 1, longestDelayMs: 5 },
  };
}

export const concurrency = 8;

export function judgeArguments(responses: string, out: string, url: string): string[] {
  const endpoint = ["--model", "m", "--base-url", url, "--concurrency", String(concurrency), "--timeout", "5"];
  return ["judge", "--responses", responses, "--out", out, ...endpoint, "--json"];
}

export interface KillPlan {
  readonly folder: string;
  readonly pairs: number;
  readonly kills: number;
  readonly server: Omit<ChatServerOptions, "task">;
}

/**
 * Kills the process with SIGKILL `kills` times, evenly over the work, lets the last one end, and checks that each pair is in the output
 * once, in order, with its own rating.
 */
export async function killAndFinish({ folder, pairs, kills, server: options }: KillPlan): Promise<ChatServer> {
  const server = await startJudgeServer(options);
  const rows = responseRows(pairs);
  const out = join(folder, "judgements.jsonl");
  const args = judgeArguments(writeRows(folder, rows), out, server.url);
  const key = { OPENAI_API_KEY: "k" };
  for (let kill = 1; kill <= kills; kill++) {
    const running = startCli(args, key);
    await Promise.race([server.received(Math.floor((kill * pairs) / (kills + 1))), running.ended]);
    running.child.kill("SIGKILL");
    expect((await running.ended).exitCode).toBe("SIGKILL");
  }
  const { exitCode, stdout, stderr } = await startCli(args, key).ended;
  expect(exitCode, stderr).toBe(0);
  const summary = JSON.parse(stdout) as Record<string, number>;
  expect(summary).toMatchObject({ out, rows: pairs, unparsable: 0, failed: 0 });
  expect(summary.judged! + summary.reused!).toBe(pairs);
  expect(summary.reused).toBeGreaterThan(0);
  const expected = rows.map(({ id, language, system, response }) => ({ id, language, system, judge: "m", rating: ratingOf(response) }));
  expect(readOutput(out).map(({ id, language, system, judge, rating }) => ({ id, language, system, judge, rating }))).toEqual(expected);
  return server;
}
