import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { judgeFlags } from "../../src/cli/judge.js";
import { judgeSettingNames } from "../../src/evaluate/judge/settings.js";
import { temporaryFolder } from "../data/data-folder.js";
import {
  concurrency,
  judgeArguments,
  killAndFinish,
  ratingOf,
  readOutput,
  responseRows,
  startJudgeServer,
  writeRows,
} from "../evaluate/judge/judging.js";
import { compile, runCli, startCli } from "./run-cli.js";

const key = { OPENAI_API_KEY: "k" };
let folder: string;
let responses: string;
let out: string;

beforeAll(compile);

beforeEach(async () => {
  folder = await temporaryFolder();
  responses = writeRows(folder, responseRows(24));
  out = join(folder, "out/judgements.jsonl");
});

describe("judge", () => {
  it("has a flag for every setting", () => {
    expect(judgeFlags.map(([name]) => name)).toEqual(judgeSettingNames);
  });

  it("prints the result as JSON, with usage and cost, and score takes the output", async () => {
    const server = await startJudgeServer();
    const { exitCode, stdout, stderr } = await startCli([...judgeArguments(responses, out, server.url), "--price-input", "2"], key).ended;
    expect(exitCode, stderr).toBe(0);
    const usage = { answers: 24, inputTokens: 264, outputTokens: 168, cost: expect.closeTo(528e-6, 12) };
    expect(JSON.parse(stdout)).toMatchObject({ out, judged: 24, reused: 0, unparsable: 0, failed: 0, usage });
    expect(stderr).toMatch(/^judged 24\/24, [\d.]+\/s, 432 tokens, cost 0\.0005, ETA 0s$/m);
    const score = runCli(["score", "--responses", responses, "--judgements", out, "--json"]);
    expect(score.exitCode, score.stderr).toBe(0);
    const { systems } = JSON.parse(score.stdout) as {
      systems: { system: string; languages: Record<string, { scoreBeforeLanguageId: number }> }[];
    };
    const sum = responseRows(24)
      .filter(({ system, language }) => system === "b" && language === "fi")
      .reduce((total, { response }) => total + ratingOf(response), 0);
    expect(systems.find(({ system }) => system === "b")!.languages.fi!.scoreBeforeLanguageId).toBe(sum);
  });

  it("takes settings from a YAML file, which flags override", async () => {
    const server = await startJudgeServer();
    const config = join(folder, "judge.yaml");
    writeFileSync(config, `model: from-file\nbaseUrl: ${server.url}\napiKeyEnv: MY_KEY\nresponses: [${responses}]\nrepeat: 2\n`);
    const args = ["judge", "--config", config, "--out", out, "--model", "from-flag"];
    const { exitCode, stdout, stderr } = await startCli(args, { MY_KEY: "mine" }).ended;
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toMatch(
      /judgements\.jsonl: 48 judgements by from-flag: 48 judged, 0 from the journal or equal pairs, 0 without a rating, 0 failed\nusage: 48 answers/,
    );
    expect(server.requests[0]).toMatchObject({ authorization: "Bearer mine", body: { model: "from-flag" } });
  });

  it("takes the shipped example of a configuration", async () => {
    const server = await startJudgeServer();
    const config = join(import.meta.dirname, "../../experiments/judge.yaml");
    const args = ["judge", "--config", config, "--responses", responses, "--out", out, "--base-url", server.url];
    expect((await startCli(args, key).ended).exitCode).toBe(0);
    expect(server.requests[0]!.body).toMatchObject({ temperature: 0, model: expect.any(String) });
  });

  it("exits with 1 where no answer came for some rows, which are in the output without a rating", async () => {
    const server = await startJudgeServer({ misbehave: ({ text }) => (text === "Answer 3" ? { kind: "status", status: 400 } : null) });
    const { exitCode, stdout, stderr } = await startCli(judgeArguments(responses, out, server.url), key).ended;
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ judged: 23, failed: 1 });
    expect(stderr).toMatch(/incomplete: no answer came for 1 of 24 rows/);
    expect(readOutput(out)[3]).toMatchObject({ rating: null, error: expect.stringContaining("HTTP 400") });
  });

  it("killed three times, judges every pair once and repeats at most what was under way", { timeout: 60_000 }, async () => {
    const server = await killAndFinish({ folder, pairs: 120, kills: 3, server: { latencyMs: 20 } });
    expect(server.requests.length).toBeLessThanOrEqual(120 + 3 * concurrency);
    expect(new Set(server.requests.map((request) => request.key)).size).toBe(120);
  });

  it("stopped by Ctrl-C, exits with 130, keeps what was answered, and goes on", async () => {
    const server = await startJudgeServer({ latencyMs: 100, honoursKeys: true });
    const stopped = startCli(judgeArguments(responses, out, server.url), key);
    await server.received(concurrency + 1);
    stopped.child.kill("SIGINT");
    const { exitCode, stderr } = await stopped.ended;
    expect(exitCode).toBe(130);
    expect(stderr).toMatch(/CANCELLED: .*kept in .*judgements\.jsonl\.journal\. Run the same command again/);
    expect(existsSync(out)).toBe(false);
    const asked = server.requests.length;
    const { stdout } = await startCli(judgeArguments(responses, out, server.url), key).ended;
    expect(JSON.parse(stdout)).toMatchObject({ reused: asked, judged: 24 - asked });
    expect(server.charged()).toBe(24);
  });

  it("refuses a journal that another process uses", async () => {
    const server = await startJudgeServer({ latencyMs: 2_000 });
    const first = startCli(judgeArguments(responses, out, server.url), key);
    await server.received(1);
    const second = await startCli(judgeArguments(responses, out, server.url), key).ended;
    expect(second.exitCode).toBe(1);
    expect(second.stderr).toMatch(new RegExp(`RUN_LOCKED: .*process ${first.child.pid} on .* has been judging there`));
    first.child.kill("SIGKILL");
    await first.ended;
  });
});

describe("judge refuses bad input with exit code 2:", () => {
  it.each<[string, readonly string[], Readonly<Record<string, string>>, RegExp]>([
    ["no model", [], key, /^USAGE: --model is missing \(or "model" in the --config file\)/],
    ["a missing key", ["--model", "m"], { OPENAI_API_KEY: "" }, /^USAGE: the environment variable OPENAI_API_KEY is not set/],
    ["a missing key under another name", ["--model", "m", "--api-key-env", "MY_KEY"], key, /MY_KEY is not set/],
    [
      "a key for the name of its variable",
      ["--model", "m", "--api-key-env", "sk-123"],
      key,
      /^USAGE: --api-key-env sk-123: expected the name/,
    ],
    [
      "an address without a protocol",
      ["--model", "m", "--base-url", "localhost:8000"],
      key,
      /^USAGE: --base-url localhost:8000: expected an address/,
    ],
    ["no repeats", ["--model", "m", "--repeat", "0"], key, /^USAGE: --repeat 0: /],
    ["a word for a number", ["--model", "m", "--concurrency", "many"], key, /^USAGE: --concurrency many: /],
    ["an unknown form", ["--model", "m", "--response-format", "xml"], key, /^USAGE: --response-format xml: .*"auto"/],
    ["an unknown flag", ["--model", "m", "--modell", "n"], key, /^USAGE: unknown option '--modell'/],
    ["a prompt that is not there", ["--model", "m", "--prompt-file", "none.md"], key, /^NOT_FOUND: --prompt-file none\.md/],
    ["a configuration that is not there", ["--config", "none.yaml"], key, /^NOT_FOUND: --config none\.yaml/],
  ])("%s", (_, args, env, message) => {
    const { exitCode, stderr } = runCli(["judge", "--responses", responses, "--out", out, ...args], env);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
    expect(existsSync(join(folder, "out"))).toBe(false);
  });

  it.each<[string, string, RegExp]>([
    [
      "a line that is no JSON",
      '{"id":1,"language":"en","system":"a","response":"x","prompt":"p"}\n{"id": 2,\n',
      /^BAD_RECORD: .*bad\.jsonl line 2/,
    ],
    [
      "the same pair twice",
      '{"id":1,"language":"en","system":"a","response":"x","prompt":"p"}\n'.repeat(2),
      /^BAD_RECORD: .*was there already/,
    ],
    [
      "a response that is no text",
      '{"id":1,"language":"en","system":"a","response":3,"prompt":"p"}\n',
      /^BAD_RECORD: .*"response" is a number/,
    ],
    [
      "a response without its instruction",
      '{"id":1,"language":"en","system":"a","response":"x"}\n',
      /^BAD_DATA: .*nothing says what it answers\nGive the prompts/,
    ],
    ["something else", '{"instruction":"a","output":"b"}\n', /^BAD_DATA: .*not responses/],
    ["an empty file", "", /^BAD_DATA: .*empty/],
  ])("%s", (_, content, message) => {
    const bad = join(folder, "bad.jsonl");
    writeFileSync(bad, content);
    const { exitCode, stderr } = runCli(["judge", "--responses", bad, "--out", out, "--model", "m"], key);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
    expect(existsSync(join(folder, "out"))).toBe(false);
  });

  it("a configuration with the key itself, by line and column", () => {
    const config = join(folder, "judge.yaml");
    writeFileSync(config, "model: m\napiKey: sk-123\nrepeat: many\n");
    const { exitCode, stderr } = runCli(["judge", "--config", config, "--responses", responses, "--out", out], key);
    expect(stderr).toMatch(/^BAD_CONFIG: /);
    expect(stderr).toMatch(/judge\.yaml:2:1: there is no setting "apiKey"/);
    expect(stderr).toMatch(/judge\.yaml:3:9: "repeat": /);
    expect(exitCode).toBe(2);
  });

  it("an output that would overwrite the responses", () => {
    const before = readFileSync(responses);
    const { exitCode, stderr } = runCli(["judge", "--responses", responses, "--out", responses, "--model", "m"], key);
    expect(stderr).toMatch(/^USAGE: --out .* would overwrite .*responses\.jsonl/);
    expect(exitCode).toBe(2);
    const journal = runCli(["judge", "--responses", responses, "--out", out, "--journal", responses, "--model", "m"], key);
    expect(journal.stderr).toMatch(/^USAGE: --journal .* would overwrite/);
    expect(readFileSync(responses).equals(before)).toBe(true);
  });
});
