/** `chat` as a process of its own, with pipes. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compile, program, runCli, testEnvironment } from "../cli/run-cli.js";
import { oneThread } from "../serve/serve-process.js";
import { makeTinyModel } from "../train/tiny-run.js";

let folder: string;
let model: string;

beforeAll(async () => {
  compile();
  folder = mkdtempSync(join(tmpdir(), "polypaca-chat-"));
  model = await makeTinyModel(join(folder, "model"));
});

afterAll(() => rmSync(folder, { recursive: true }));

interface RunningChat {
  readonly child: ReturnType<typeof spawn>;
  readonly written: { readonly stdout: string; readonly stderr: string };
  readonly ended: Promise<number | string | null>;
}

function startChat(args: readonly string[]): RunningChat {
  const child = spawn(process.execPath, [program, "chat", "--model", model, "--dtype", "fp32", "--device", "cpu", ...args], {
    ...{ env: { ...testEnvironment, ...oneThread }, stdio: ["pipe", "pipe", "pipe"] },
  });
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]!.setEncoding("utf8").on("data", (text: string) => {
      written[name] += text;
    });
  }
  const ended = new Promise<number | string | null>((resolve) => child.on("close", (code, signal) => resolve(code ?? signal)));
  return { child, written, ended };
}

describe("chat", () => {
  it("answers each line of a pipe as generate does, and says that each stands alone", async () => {
    const questions = ["Hello", "Compte jusqu'à trois."];
    const decoding = ["--max-new-tokens", "16", "--no-repeat-ngram-size", "2"];
    const prompts = join(folder, "test_en.jsonl");
    writeFileSync(prompts, questions.map((prompt, id) => `${JSON.stringify({ id, prompt })}\n`).join(""));
    const out = join(folder, "answers.jsonl");
    const how = ["--num-beams", "1", "--batch-size", "1", "--dtype", "fp32", "--device", "cpu"];
    expect(runCli(["generate", "--model", model, "--prompts", prompts, "--out", out, ...decoding, ...how], oneThread).exitCode).toBe(0);
    const rows = readFileSync(out, "utf8").trimEnd().split("\n");
    const expected = rows.map((line) => JSON.parse(line) as { id: number; response: string }).sort((a, b) => a.id - b.id);
    const { child, written, ended } = startChat(decoding);
    child.stdin!.end(questions.map((question) => `${question}\n`).join(""));
    expect(await ended, written.stderr).toBe(0);
    expect(written.stdout).toBe(expected.map(({ response }) => `${response}\n`).join(""));
    expect(written.stderr).toMatch(/^model; each line stands alone.*\/help lists the commands\.$/m);
  });

  it("streams, and ends with 130 at Ctrl-C", async () => {
    const { child, written, ended } = startChat(["--max-new-tokens", "100000"]);
    child.stdin!.write("Hello\n");
    await expect.poll(() => written.stdout.length, { timeout: 20_000 }).toBeGreaterThan(20);
    child.kill("SIGINT");
    expect(await ended).toBe(130);
  });

  it("keeps the conversation where the model has a chat template", async () => {
    const template = join(folder, "chat.jinja");
    writeFileSync(template, "{{ raise_exception('turns: ' ~ messages | length) }}");
    const { child, written, ended } = startChat(["--template", template, "--system", "Be brief."]);
    child.stdin!.end("Hello\n");
    expect(await ended).toBe(0);
    expect(written.stderr).toMatch(/answers know what was said before/);
    expect(written.stderr).toMatch(/the model's chat template refuses the messages: turns: 2$/m);
  });

  it.each<[string, readonly string[], RegExp]>([
    ["a model that is not there", ["--model", "none"], /^NOT_FOUND: /],
    ["an adapter that is not there", ["--model", "MODEL", "--adapter", "none"], /^NOT_FOUND: --adapter none/],
    ["a temperature that is none", ["--model", "MODEL", "--temperature", "warm"], /^USAGE: --temperature warm: expected a number/],
  ])("refuses %s with exit code 2", (_, args, message) => {
    const { exitCode, stderr } = runCli(["chat", ...args.map((arg) => arg.replace("MODEL", model))]);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
  });
});
