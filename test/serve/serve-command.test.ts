/** The whole of `serve`: a real model and adapter in a process of its own, the official client, and `judge`. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { train } from "../../src/train/train.js";
import { compile, runCli, startCli } from "../cli/run-cli.js";
import { makeTinyModel, quietEnvironment, tinySettings } from "../train/tiny-run.js";
import { launchServe, oneThread, type ServeProcess, startServe } from "./serve-process.js";

type Logprob = OpenAI.ChatCompletionTokenLogprob;

let folder: string;
let model: string;
let adapter: string;
/** With the adapter as "tuned", for tests that leave it as it is. */
let shared: ServeProcess;

beforeAll(async () => {
  compile();
  folder = mkdtempSync(join(tmpdir(), "polypaca-serve-"));
  model = await makeTinyModel(join(folder, "base"));
  const run = join(folder, "run");
  await train(tinySettings(model, run), quietEnvironment());
  adapter = join(run, "best");
  shared = await launchServe(["--model", model, "--adapter", `tuned=${adapter}`, "--slots", "6", "--max-length", "1024"]);
});

afterAll(async () => {
  shared?.child.kill("SIGTERM");
  expect((await shared?.ended)?.exitCode).toBe(0);
  rmSync(folder, { recursive: true });
});

const questions = ["Hello", "Was ist eine Primzahl?", "Compte jusqu'à trois.", "Назови три цвета.", "写一首诗。", "Name a fruit </s>"];

/** Decoding as `generate` is told to below. */
const decoding = { temperature: 0, max_tokens: 16, no_repeat_ngram_size: 2, repetition_penalty: 1.1 };

function ask(content: string, fields: object = {}, server = shared, signal?: AbortSignal): Promise<OpenAI.ChatCompletion> {
  const messages = [{ role: "user" as const, content }];
  return server.client.chat.completions.create({ model: "base", messages, ...decoding, ...fields, stream: false }, { signal });
}

async function streamOf(content: string, fields: object = {}, server = shared): Promise<AsyncIterable<OpenAI.ChatCompletionChunk>> {
  const messages = [{ role: "user" as const, content }];
  return server.client.chat.completions.create({ model: "base", messages, ...decoding, ...fields, stream: true });
}

async function textOf(stream: AsyncIterable<OpenAI.ChatCompletionChunk>): Promise<string> {
  let text = "";
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
  return text;
}

function generated(name: string, args: readonly string[]): { readonly response: string; readonly tokens: number }[] {
  const prompts = join(folder, "test_en.jsonl");
  writeFileSync(prompts, questions.map((prompt, id) => `${JSON.stringify({ id, prompt })}\n`).join(""));
  const out = join(folder, `${name}.jsonl`);
  const flags = ["--num-beams", "1", "--max-new-tokens", "16", "--no-repeat-ngram-size", "2", "--repetition-penalty", "1.1"];
  const where = ["--batch-size", "1", "--dtype", "fp32", "--device", "cpu", "--prompts", prompts, "--out", out];
  const { exitCode, stderr } = runCli(["generate", "--model", model, ...args, ...flags, ...where], oneThread);
  expect(exitCode, stderr).toBe(0);
  const rows = readFileSync(out, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { id: number; response: string; tokens: number });
  return rows.sort((a, b) => a.id - b.id);
}

describe("answers", () => {
  it.each(["base", "tuned"])("of %s are those of generate, one request at a time, whole and streamed", async (name) => {
    const expected = generated(name, name === "base" ? [] : ["--adapter", adapter]);
    expect(expected).toHaveLength(questions.length);
    for (const [i, { response, tokens }] of expected.entries()) {
      const { choices, usage } = await ask(questions[i]!, { model: name });
      expect([choices[0]!.message.content, usage!.completion_tokens], questions[i]).toEqual([response, tokens]);
      expect(await textOf(await streamOf(questions[i]!, { model: name }))).toBe(response);
    }
  });

  it("of base and adapter differ", async () => {
    const [base, tuned] = await Promise.all(["base", "tuned"].map((name) => ask("Hello", { model: name, max_tokens: 60 })));
    expect(base!.choices[0]!.message.content).not.toBe(tuned!.choices[0]!.message.content);
  });

  it("are the same for 64 requests at once, but for rounding", async () => {
    const fields = { logprobs: true, top_logprobs: 2, repetition_penalty: 1, no_repeat_ngram_size: 0 };
    const modelOf = (i: number): string => ["base", "tuned"][i % 2]!;
    const contentOf = (i: number): string => `${questions[i % questions.length]} ${i}`;
    const alone: Logprob[][] = [];
    for (let i = 0; i < 64; i++) alone.push((await ask(contentOf(i), { ...fields, model: modelOf(i) })).choices[0]!.logprobs!.content!);
    const together = await Promise.all(
      Array.from({ length: 64 }, (_, i) =>
        i % 3 === 0
          ? streamOf(contentOf(i), { ...fields, model: modelOf(i) }).then(logprobsOf)
          : ask(contentOf(i), { ...fields, model: modelOf(i) }).then(({ choices }) => choices[0]!.logprobs!.content!),
      ),
    );
    together.forEach((got, i) => {
      expectSameButForRounding(got, alone[i]!);
    });
  });

  it("of the same seed are the same draw, of another seed another", async () => {
    const fields = { temperature: 1, repetition_penalty: 1, no_repeat_ngram_size: 0, top_k: 50 };
    const [first, again, other] = [
      await ask("Hi", { ...fields, seed: 1 }),
      await ask("Hi", { ...fields, seed: 1 }),
      await ask("Hi", { ...fields, seed: 2 }),
    ];
    expect(again.choices[0]!.message).toEqual(first.choices[0]!.message);
    expect(other.choices[0]!.message).not.toEqual(first.choices[0]!.message);
    expect((await ask("Hi", { ...fields, seed: 1, n: 2 })).choices.map(({ message }) => message)).toEqual(
      [first, other].map(({ choices }) => choices[0]!.message),
    );
  });

  it("to completions go on from the prompt alone, and end at stop strings that they contain", async () => {
    const complete = (fields: object = {}) =>
      shared.client.completions.create({
        model: "base",
        prompt: "Once upon a time",
        temperature: 0,
        max_tokens: 20,
        logprobs: 1,
        ...fields,
      });
    const { choices, usage } = await complete();
    const { text, logprobs } = choices[0]!;
    expect(logprobs!.tokens!.join("")).toBe(text);
    expect(logprobs!.text_offset!.map((offset) => [...text].slice(0, offset).join(""))).toEqual(
      logprobs!.tokens!.map((_, i) => logprobs!.tokens!.slice(0, i).join("")),
    );
    expect(usage!.completion_tokens).toBe(20);
    const stop = text.slice(5, 9);
    const stopped = (await complete({ stop })).choices[0]!;
    expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: "stop" });
  });

  it("have log-probabilities that are those of their distribution", async () => {
    const { choices } = await ask("Hello", { logprobs: true, top_logprobs: 20 });
    for (const { logprob, top_logprobs } of choices[0]!.logprobs!.content!) {
      const shares = top_logprobs.map((top) => Math.exp(top.logprob));
      expect(shares).toEqual([...shares].sort((a, b) => b - a));
      expect(shares.reduce((sum, share) => sum + share)).toBeLessThanOrEqual(1 + 1e-6);
      expect(logprob).toBeLessThanOrEqual(top_logprobs[0]!.logprob);
    }
  });
});

async function logprobsOf(stream: AsyncIterable<OpenAI.ChatCompletionChunk>): Promise<Logprob[]> {
  const tokens: Logprob[] = [];
  for await (const { choices } of stream) tokens.push(...(choices[0]?.logprobs?.content ?? []));
  return tokens;
}

/** Beside others, products of other shapes add up in another order; a token that was nearly as likely as the next may then change. */
function expectSameButForRounding(got: readonly Logprob[], alone: readonly Logprob[]): void {
  for (const [i, expected] of alone.entries()) {
    expect(Math.abs(got[i]!.logprob - expected.logprob)).toBeLessThan(1e-3);
    if (got[i]!.token === expected.token) continue;
    const [first, second] = expected.top_logprobs;
    expect(first!.logprob - second!.logprob).toBeLessThan(1e-3);
    return;
  }
  expect(got).toHaveLength(alone.length);
}

describe("a server under load", () => {
  it("stays up and keeps its memory while clients ask, leave, and send nonsense", { timeout: 240_000 }, async () => {
    const round = async (count: number): Promise<void> => {
      await Promise.all(Array.from({ length: count }, (_, i) => [whole, streamed, left, refused, malformed][i % 5]!(i)));
    };
    const whole = async (i: number): Promise<void> => void (await ask(`Question ${i}`, { max_tokens: 8, logprobs: true }));
    const streamed = async (i: number): Promise<void> =>
      void (await textOf(await streamOf(`Question ${i}`, { max_tokens: 8, model: "tuned" })));
    const left = async (i: number): Promise<void> => {
      for await (const _chunk of await streamOf(`Question ${i}`, { max_tokens: 500 })) break;
    };
    const refused = (i: number): Promise<void> => expect(ask(`${i}`, { model: "none" })).rejects.toMatchObject({ status: 404 });
    const malformed = async (i: number): Promise<void> => {
      const body = i % 2 === 0 ? "{" : "x".repeat(2 ** 20 + 1);
      const headers = { "content-type": "application/json" };
      expect((await fetch(`${shared.url}/v1/completions`, { method: "POST", headers, body })).status).toBe(i % 2 === 0 ? 400 : 413);
    };
    for (let i = 0; i < 4; i++) await round(50); // warm-up
    const before = await shared.metric("process_resident_memory_bytes");
    for (let i = 0; i < 12; i++) await round(50);
    const after = await shared.metric("process_resident_memory_bytes");
    // 600 requests; the collector may let garbage of some requests lie, a kept request or cache would be far more.
    expect(after - before).toBeLessThan(96 * 2 ** 20);
    await expect.poll(() => shared.metric("polypaca_sequences_running"), { timeout: 10_000 }).toBe(0);
    expect(await shared.metric("polypaca_sequences_waiting")).toBe(0);
    expect(await shared.metric("polypaca_sequences_cancelled_total")).toBeGreaterThanOrEqual(16 * 10);
    expect((await ask("Hello")).choices[0]!.finish_reason).toBeTruthy();
  });

  it("refuses what its queue cannot hold, with 429", async () => {
    const server = await startServe(["--model", model, "--slots", "1", "--queue", "1", "--max-length", "4096"]);
    const long = { max_tokens: 4_000, no_repeat_ngram_size: 0 };
    const leave = new AbortController();
    const held = Array.from({ length: 2 }, () => ask("Hello", long, server, leave.signal).catch(() => "left"));
    await expect.poll(() => server.metric("polypaca_sequences_waiting"), { interval: 10 }).toBe(1);
    for (let i = 0; i < 6; i++) await expect(ask("Hello", {}, server)).rejects.toMatchObject({ status: 429, code: "queue_full" });
    leave.abort();
    expect(await Promise.all(held)).toEqual(["left", "left"]);
    await expect.poll(() => server.metric("polypaca_sequences_running")).toBe(0);
    expect((await ask("Hello", {}, server)).choices).toHaveLength(1);
  });
});

describe("the server", () => {
  it("asks for the key that the environment holds", async () => {
    const server = await startServe(["--model", model, "--api-key-env", "MY_KEY", "--name", "mine"], { MY_KEY: "secret" });
    expect(server.models).toEqual(["mine"]);
    expect((await ask("Hello", { model: "mine" }, server)).model).toBe("mine");
    const stranger = server.client.withOptions({ apiKey: "other" });
    await expect(stranger.models.list()).rejects.toMatchObject({ status: 401, code: "invalid_api_key" });
  });

  it("lets a stream finish at SIGTERM, takes no more, and exits with 0", async () => {
    const server = await startServe(["--model", model]);
    const stream = await streamOf("Hello", { max_tokens: 1_500, no_repeat_ngram_size: 0, stream_options: { include_usage: true } }, server);
    let usage: OpenAI.CompletionUsage | null | undefined;
    let isAsked = false;
    for await (const chunk of stream) {
      usage = chunk.usage;
      if (isAsked) continue;
      isAsked = true;
      server.child.kill("SIGTERM");
      await expect
        .poll(() =>
          fetch(`${server.url}/health`).then(
            () => "up",
            () => "down",
          ),
        )
        .toBe("down");
    }
    expect(usage!.completion_tokens).toBe(1_500);
    expect(await server.ended).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/SIGTERM: finishing the running requests/) });
  });

  it("ends streams that outlast --shutdown-timeout with an error, and exits with 0", async () => {
    const server = await startServe(["--model", model, "--shutdown-timeout", "0.05"]);
    const stream = await streamOf("Hello", { max_tokens: 1_900, no_repeat_ngram_size: 0 }, server);
    const read = async (): Promise<void> => {
      let isAsked = false;
      for await (const _chunk of stream) {
        if (!isAsked) server.child.kill("SIGTERM");
        isAsked = true;
      }
    };
    await expect(read()).rejects.toThrow(/The server stops/);
    expect((await server.ended).exitCode).toBe(0);
  });

  it("ends at once at the second signal", async () => {
    const server = await startServe(["--model", model]);
    const stream = await streamOf("Hello", { max_tokens: 1_900, no_repeat_ngram_size: 0 }, server);
    for await (const _chunk of stream) break;
    const again = await streamOf("Hello", { max_tokens: 1_900, no_repeat_ngram_size: 0 }, server);
    const rest = textOf(again).catch(() => "broken off");
    server.child.kill("SIGINT");
    await expect
      .poll(() =>
        fetch(`${server.url}/health`).then(
          () => "up",
          () => "down",
        ),
      )
      .toBe("down");
    server.child.kill("SIGINT");
    expect((await server.ended).exitCode).toBe(130);
    expect(await rest).toBe("broken off");
  });
});

describe("judge, asking the server", () => {
  it("records what a model says that cannot judge, and guesses nothing", { timeout: 240_000 }, async () => {
    const responses = join(folder, "responses.jsonl");
    const rows = ["a", "b"].flatMap((system) =>
      ["1"].map((id) => ({ id, language: "en", system, prompt: `Question ${id}?`, response: `Answer ${id} of ${system}` })),
    );
    writeFileSync(responses, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const out = join(folder, "judgements.jsonl");
    const args = ["judge", "--model", "tuned", "--base-url", `${shared.url}/v1`, "--responses", responses, "--out", out, "--json"];
    const { exitCode, stdout, stderr } = await startCli(args, { OPENAI_API_KEY: "any" }).ended;
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toMatch(/the server does not take response_format json_schema/);
    expect(JSON.parse(stdout)).toMatchObject({ judge: "tuned", rows: 2, judged: 2, unparsable: 2, failed: 0 });
    const judgements = readFileSync(out, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(judgements.map(({ id, system }) => [id, system])).toEqual(rows.map(({ id, system }) => [id, system]));
    for (const row of judgements) expect(row).toMatchObject({ judge: "tuned", rating: null, raw: expect.any(String) });
    expect(judgements.every((row) => !("error" in row))).toBe(true);
  });
});

describe("serve refuses bad input with exit code 2:", () => {
  it.each<[string, readonly string[], RegExp]>([
    ["no model", [], /^USAGE: required option '--model <DIR>' not specified/],
    ["a model that is not there", ["--model", "none"], /^NOT_FOUND: none/m],
    ["an adapter without a name", ["--model", "MODEL", "--adapter", "=x"], /^USAGE: --adapter =x: expected NAME=DIR/m],
    ["an adapter that is a folder alone", ["--model", "MODEL", "--adapter", "ADAPTER"], /^USAGE: --adapter .*: expected NAME=DIR/m],
    ["an adapter that is not there", ["--model", "MODEL", "--adapter", "a=none"], /^NOT_FOUND: .*none/m],
    ["a name twice", ["--model", "MODEL", "--adapter", "base=ADAPTER"], /^USAGE: two models are called "base"/m],
    ["a port that is none", ["--model", "MODEL", "--port", "70000"], /^USAGE: --port 70000: expected a whole number/],
    ["a key that is not set", ["--model", "MODEL", "--api-key-env", "NO_SUCH_KEY"], /^USAGE: --api-key-env NO_SUCH_KEY: the environment/],
    ["a template that is not there", ["--model", "MODEL", "--template", "none.json"], /^NOT_FOUND: /m],
    ["an address that is not this machine's", ["--model", "MODEL", "--host", "203.0.113.1"], /^USAGE: --host 203\.0\.113\.1/m],
  ])("%s", (_, args, message) => {
    const real = args.map((arg) => arg.replace("MODEL", model).replace("ADAPTER", adapter));
    const { exitCode, stderr } = runCli(["serve", "--port", "0", ...real]);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
  });
});
