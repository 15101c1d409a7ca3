/** A translation whose process is killed again and again, over a real server. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { startCli } from "../cli/run-cli.js";
import { type ChatServer, type ChatServerOptions, startChatServer } from "../endpoint/chat-server.js";

export const concurrency = 8;

export interface KillPlan {
  readonly data: string;
  readonly source: string;
  readonly languages: readonly string[];
  readonly out: string;
  readonly kills: number;
  readonly server: ChatServerOptions;
}

export interface KilledRun {
  readonly server: ChatServer;
  /** Different ones of one language. */
  readonly segments: number;
}

interface Summary {
  readonly languages: Readonly<Record<string, { readonly segments: number; readonly translated: number; readonly reused: number }>>;
}

export function translateArguments({ data, source, languages, out }: Omit<KillPlan, "kills" | "server">, url: string): string[] {
  const places = ["--data", data, "--source", source, "--langs", languages.join(","), "--out", out];
  const provider = ["--provider", "openai", "--model", "m", "--base-url", url, "--concurrency", String(concurrency), "--timeout", "5"];
  return ["translate", ...places, ...provider, "--json"];
}

/**
 * Kills the process with SIGKILL `kills` times, evenly over the work, lets the last one end, and checks that every record is there
 * once, in order, with nothing lost.
 */
export async function killAndFinish(plan: KillPlan): Promise<KilledRun> {
  const server = await startChatServer(plan.server);
  const args = translateArguments(plan, server.url);
  const segments = await countSegments(plan);
  const total = segments * plan.languages.length;
  for (let kill = 1; kill <= plan.kills; kill++) {
    const running = startCli(args, { OPENAI_API_KEY: "k" });
    await Promise.race([server.received(Math.floor((kill * total) / (plan.kills + 1))), running.ended]);
    running.child.kill("SIGKILL");
    expect((await running.ended).exitCode).toBe("SIGKILL");
  }
  const { exitCode, stdout, stderr } = await startCli(args, { OPENAI_API_KEY: "k" }).ended;
  expect(exitCode, stderr).toBe(0);
  const { languages } = JSON.parse(stdout) as Summary;
  const source = JSON.parse(readFileSync(plan.data, "utf8")) as object[];
  for (const code of plan.languages) {
    const bare = readFileSync(join(plan.out, `alpaca.${code}.json`), "utf8").replaceAll(`⟪${code}⟫`, "");
    expect(JSON.parse(bare)).toEqual(source);
    const { segments: found, translated, reused } = languages[code]!;
    expect([found, translated + reused]).toEqual([segments, segments]);
  }
  return { server, segments };
}

/** As the program counts them, without asking anything. */
async function countSegments({ data, source, out }: KillPlan): Promise<number> {
  const file = `${out}-segments.jsonl`;
  const args = ["translate", "--data", data, "--source", source, "--export-segments", file, "--sentences", "joined", "--json"];
  const { exitCode, stdout, stderr } = await startCli(args).ended;
  expect(exitCode, stderr).toBe(0);
  return (JSON.parse(stdout) as { readonly segments: number }).segments;
}
