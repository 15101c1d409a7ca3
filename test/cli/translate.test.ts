import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { realDataDir, sampleDir, temporaryFolder } from "../data/data-folder.js";
import { startChatServer } from "../endpoint/chat-server.js";
import { concurrency, killAndFinish, translateArguments } from "../translate/kill-runs.js";
import { compile, runCli, startCli } from "./run-cli.js";

const sample = join(sampleDir, "alpaca.en.json");
const key = { OPENAI_API_KEY: "k" };
let folder: string;
let out: string;

beforeAll(compile);

beforeEach(async () => {
  folder = await temporaryFolder();
  out = join(folder, "out");
});

describe("translate with the openai provider", () => {
  it("prints the result as JSON, with usage and cost", async () => {
    const server = await startChatServer();
    const args = [...translateArguments({ data: sample, source: "en", languages: ["fi", "de"], out }, server.url), "--price-input", "2"];
    const { exitCode, stdout, stderr } = await startCli(args, key).ended;
    expect(exitCode, stderr).toBe(0);
    const summary = JSON.parse(stdout) as { languages: Record<string, object>; usage: { inputTokens: number; cost: number } };
    const segments = server.requests.length / 2;
    for (const code of ["fi", "de"])
      expect(summary.languages[code]).toMatchObject({
        records: 60,
        segments,
        translated: segments,
        reused: 0,
        flagged: expect.any(Number),
      });
    expect(summary.usage.inputTokens).toBe(11 * server.requests.length);
    expect(summary.usage.cost).toBeCloseTo((2 * summary.usage.inputTokens) / 1e6, 12);
    expect(stderr).toMatch(/^fi \d+\/\d+, \d+ segments\/s, \d+ tokens, cost 0\.\d+, ETA 0s$/m);
  });

  it("prints a summary per language with examples to read", async () => {
    const server = await startChatServer();
    const args = translateArguments({ data: sample, source: "en", languages: ["fi"], out }, server.url).filter((arg) => arg !== "--json");
    const { stdout } = await startCli(args, key).ended;
    expect(stdout).toMatch(/^fi: .*alpaca\.fi\.json: 60 records; \d+ segments, \d+ translated, 0 from the journal; \d+ records flagged$/m);
    expect(stdout).toMatch(/^ {2}flags: wrong-language \d+/m);
    expect(stdout).toMatch(/^ {2}wrong-language, record sample-\d+, \w+: en, not fi\n {4}[A-Z].*\n {4}⟪fi⟫/m);
  });

  it("killed three times, brings every record once and repeats at most what was under way", { timeout: 60_000 }, async () => {
    const plan = { data: sample, source: "en", languages: ["fi", "de"], out, kills: 3, server: { latencyMs: 10 } };
    const { server, segments } = await killAndFinish(plan);
    expect(server.requests.length).toBeLessThanOrEqual(2 * segments + plan.kills * concurrency);
  });

  it("stopped by Ctrl-C, exits with 130, keeps what was answered, and goes on", async () => {
    const server = await startChatServer({ latencyMs: 20, honoursKeys: true });
    const args = translateArguments({ data: sample, source: "en", languages: ["fi"], out }, server.url);
    const stopped = startCli(args, key);
    await server.received(20);
    stopped.child.kill("SIGINT");
    const { exitCode, stderr } = await stopped.ended;
    expect(exitCode).toBe(130);
    expect(stderr).toMatch(/CANCELLED: .*kept in .*journal\.fi\.jsonl\. Run the same command again/);
    const asked = server.requests.length;
    const { stdout } = await startCli(args, key).ended;
    expect(JSON.parse(stdout)).toMatchObject({ languages: { fi: { reused: asked } } });
    expect(server.charged()).toBe(server.requests.length);
  });

  it("says that a server never answers, and does not wait for every segment", async () => {
    const server = createServer(() => {});
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
    const args = translateArguments({ data: sample, source: "en", languages: ["fi"], out }, url);
    const { exitCode, stderr } = await startCli([...args, "--timeout", "0.1", "--max-retries", "1"], key).ended;
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(
      /INCOMPLETE: openai: the last 10 segments all failed, the latest with: no answer within 0\.1 s \(also after 1 retry\)/,
    );
    expect(existsSync(join(out, "alpaca.fi.json"))).toBe(false);
  });

  it("refuses a folder in which another process translates", async () => {
    const server = await startChatServer({ latencyMs: 50 });
    const args = translateArguments({ data: sample, source: "en", languages: ["fi"], out }, server.url);
    const first = startCli(args, key);
    await server.received(1);
    const second = await startCli(args, key).ended;
    expect(second.exitCode).toBe(1);
    expect(second.stderr).toMatch(new RegExp(`RUN_LOCKED: .*process ${first.child.pid} on .* has been translating there`));
    first.child.kill("SIGKILL");
    await first.ended;
  });
});

describe("translate with a program", () => {
  it("pipes segments through it, one sentence a line, in each language", () => {
    const program = join(folder, "upper.mjs");
    writeFileSync(program, 'process.stdin.setEncoding("utf8").on("data", (text) => process.stdout.write(text.toUpperCase()));');
    const data = join(folder, "alpaca.en.json");
    writeFileSync(data, JSON.stringify([{ instruction: "First one. Second one.", input: "", output: "see `code` here" }]));
    const command = `"${process.execPath}" "${program}" {target}`;
    const args = ["--data", data, "--langs", "fi,sv", "--out", out, "--provider", "command", "--command", command];
    const { exitCode, stderr } = runCli(["translate", ...args]);
    expect(exitCode, stderr).toBe(0);
    expect(JSON.parse(readFileSync(join(out, "alpaca.sv.json"), "utf8"))).toEqual([
      { instruction: "FIRST ONE. SECOND ONE.", input: "", output: "SEE `code` HERE" },
    ]);
  });
});

describe("translate refuses bad input with exit code 2:", () => {
  const base = ["translate", "--data", sample, "--langs", "fi"];
  const openai = ["--provider", "openai", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"];

  it.each<[string, readonly string[], Readonly<Record<string, string>>, RegExp]>([
    ["a missing key", openai, { OPENAI_API_KEY: "" }, /^USAGE: .*OPENAI_API_KEY is not set/],
    ["a missing key under another name", [...openai, "--api-key-env", "MY_KEY"], key, /^USAGE: .*MY_KEY is not set/],
    ["an unknown language", [...openai, "--langs", "fi,zz"], key, /^USAGE: --langs: "zz" is no language code/],
    ["a language by name", [...openai, "--langs", "Finnish"], key, /^USAGE: .*Did you mean "fi"/],
    ["no provider", [], key, /^USAGE: --provider openai\|command\|libretranslate\|files is missing/],
    ["an unknown provider", ["--provider", "google"], key, /^USAGE: --provider google: expected openai or command/],
    ["no model", ["--provider", "openai"], key, /^USAGE: --model NAME is missing/],
    [
      "an address without a protocol",
      [...openai, "--base-url", "localhost:8000"],
      key,
      /^USAGE: --base-url localhost:8000: expected an address/,
    ],
    ["a bad number", [...openai, "--concurrency", "0"], key, /^USAGE: --concurrency 0: expected a whole number, at least 1/],
    ["a data file that is not there", [...openai, "--data", "none.json"], key, /^NOT_FOUND: .*none\.json/],
  ])("%s", (_, args, env, message) => {
    const { exitCode, stderr } = runCli([...base, "--out", out, ...args], env);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
    expect(existsSync(out)).toBe(false);
  });

  it("line 50 of the study's Hindi prompts, and says that they are no Alpaca data", ({ skip }) => {
    const file = join(realDataDir, "test-data/test_hi.jsonl");
    if (!existsSync(file)) skip("../shared/data is not there");
    const prompts = runCli([...base, ...openai, "--out", out, "--source", "hi", "--data", file], key);
    expect(prompts.exitCode).toBe(2);
    expect(prompts.stderr).toMatch(/^BAD_DATA: .*not Alpaca data: .*"prompt"/);
    const asAlpaca = join(folder, "hi.jsonl");
    const lines = readFileSync(file, "utf8").split("\n");
    writeFileSync(asAlpaca, lines.map((line) => line.replace('"prompt"', '"output": "", "instruction"')).join("\n"));
    const records = runCli([...base, ...openai, "--out", out, "--source", "hi", "--data", asAlpaca], key);
    expect(records.exitCode).toBe(2);
    expect(records.stderr).toMatch(/^BAD_RECORD: .*hi\.jsonl line 50, column \d+: not valid JSON \(a second closing quote\)/);
  });
});
