import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { judge } from "../../../src/evaluate/judge/judge.js";
import type { JudgeSettings } from "../../../src/evaluate/judge/settings.js";
import { parseJudgements } from "../../../src/evaluate/read-judgements.js";
import { temporaryFolder } from "../../data/data-folder.js";
import type { ChatServer, Misbehaviour } from "../../endpoint/chat-server.js";
import { ratingOf, readOutput, responseRows, settingsFor, startJudgeServer, testEnvironment, writeRows } from "./judging.js";

let folder: string;
let out: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  out = join(folder, "judgements.jsonl");
});

function settings(server: Pick<ChatServer, "url">, rows: readonly object[], more: Partial<JudgeSettings> = {}): JudgeSettings {
  return settingsFor(server, writeRows(folder, rows), out, more);
}

/** A server that misbehaves with the requests about one response. */
function misbehavingAt(response: string, misbehaviour: Misbehaviour, times = Number.POSITIVE_INFINITY): Promise<ChatServer> {
  let count = 0;
  return startJudgeServer({ misbehave: ({ text }) => (text === response && count++ < times ? misbehaviour : null) });
}

describe("judge", () => {
  it("writes each pair once in the responses' order, as score reads it", async () => {
    const server = await startJudgeServer({ latencyMs: 2 });
    const rows = responseRows(20);
    const summary = await judge(settings(server, rows, { judge: "strict" }), testEnvironment());
    expect(summary).toMatchObject({ out, judge: "strict", model: "m", rows: 20, judged: 20, reused: 0, unparsable: 0, failed: 0 });
    const expected = rows.map(({ id, language, system, response }) => ({
      ...{ id, language, system, judge: "strict", promptVersion: summary.promptVersion },
      ...{ rating: ratingOf(response), explanation: `because of ${response.slice(0, 10)}` },
      raw: JSON.stringify({ explanation: `because of ${response.slice(0, 10)}`, rating: ratingOf(response) }),
    }));
    expect(readOutput(out)).toEqual(expected);
    const read = parseJudgements(readFileSync(out), out);
    expect(read.map(({ rating, repeat }) => [rating, repeat])).toEqual(rows.map(({ response }) => [ratingOf(response), 0]));
  });

  it("sends model, key, prompt and the form of the answer, each pair by itself", async () => {
    const server = await startJudgeServer();
    await judge(settings(server, responseRows(3), { temperature: 0 }), testEnvironment());
    expect(server.requests.map(({ text }) => text).sort()).toEqual(["Answer 0", "Answer 1.", "Answer 2.."]);
    expect(server.requests.map(({ target }) => target).sort()).toEqual(["English", "English", "Finnish"]);
    expect(new Set(server.requests.map(({ key }) => key)).size).toBe(3);
    const { body, authorization } = server.requests[0]!;
    expect(authorization).toBe("Bearer secret");
    expect(body).toMatchObject({
      ...{ model: "m", temperature: 0, messages: [{ role: "system" }, { role: "user" }] },
      response_format: { type: "json_schema", json_schema: { strict: true, schema: { required: ["explanation", "rating"] } } },
    });
    expect(JSON.stringify(body)).toContain('"enum":[1,2,3]');
  });

  it("asks for nothing that the journal has, and for what is new", async () => {
    const server = await startJudgeServer();
    const rows = responseRows(12);
    await judge(settings(server, rows.slice(0, 8)), testEnvironment());
    const more = await judge(settings(server, rows), testEnvironment());
    expect(more).toMatchObject({ rows: 12, judged: 4, reused: 8, usage: { answers: 4, inputTokens: 44, outputTokens: 28 } });
    expect(server.requests).toHaveLength(12);
    expect(await judge(settings(server, rows), testEnvironment())).toMatchObject({ judged: 0, reused: 12, usage: null });
    expect(readOutput(out)).toHaveLength(12);
    expect(server.requests).toHaveLength(12);
  });

  it("asks anew for another model, prompt, instruction, language or response, and keeps all in one journal", async () => {
    const server = await startJudgeServer();
    const row = { id: "1", language: "en", system: "a", prompt: "Hi?", response: "Hi." };
    const promptFile = join(folder, "prompt.md");
    writeFileSync(promptFile, "The instruction is in {{language}}\n---\n{{instruction}}\n{{response}}");
    const runs: [object, Partial<JudgeSettings>][] = [
      ...[[row, {}] as [object, object], [row, { model: "n" }] as [object, object], [row, { promptFile }] as [object, object]],
      ...[
        [{ ...row, prompt: "Ho?" }, {}],
        [{ ...row, language: "fi" }, {}],
        [{ ...row, response: "Ho." }, {}],
      ].map((run) => run as [object, object]),
    ];
    for (const turn of [1, 0])
      for (const [one, more] of runs) expect(await judge(settings(server, [one], more), testEnvironment())).toMatchObject({ judged: turn });
    expect(new Set(server.requests.map(({ key }) => key)).size).toBe(runs.length);
    expect(server.requests).toHaveLength(runs.length);
  });

  it("asks once for pairs that are equal, and once per repeat", async () => {
    const server = await startJudgeServer();
    const rows = ["a", "b", "c"].map((system) => ({ id: 7, language: "en", system, prompt: "Hi?", response: "Hi." }));
    const summary = await judge(settings(server, rows, { repeat: 2 }), testEnvironment());
    expect(summary).toMatchObject({ rows: 6, judged: 2, reused: 4 });
    expect(readOutput(out).map(({ system, repeat, id }) => `${system}${repeat} ${id}`)).toEqual([
      "a0 7",
      "a1 7",
      "b0 7",
      "b1 7",
      "c0 7",
      "c1 7",
    ]);
    expect(parseJudgements(readFileSync(out), out).map(({ repeat }) => repeat)).toEqual([0, 1, 0, 1, 0, 1]);
    expect(new Set(server.requests.map(({ key }) => key)).size).toBe(2);
    expect(await judge(settings(server, rows, { repeat: 3 }), testEnvironment())).toMatchObject({ rows: 9, judged: 1, reused: 8 });
  });

  it("takes instructions from the prompts where responses come without, and says which nothing answers", async () => {
    const server = await startJudgeServer();
    const prompts = writeRows(folder, [{ id: 1, prompt: "Hi?" }], "test_en.jsonl");
    const row = { id: "1", language: "en", system: "a", response: "Hi." };
    await judge(settings(server, [row], { prompts: [prompts] }), testEnvironment());
    expect(JSON.stringify(server.requests[0]!.body)).toContain("Hi?");
    await expect(judge(settings(server, [row, { ...row, id: "2" }], { prompts: [prompts] }), testEnvironment())).rejects.toMatchObject({
      code: "BAD_DATA",
      message: expect.stringMatching(/responses\.jsonl line 2, .*id "2": nothing says what it answers\nGive the prompts with --prompts/),
    });
    expect(server.requests).toHaveLength(1);
  });
});

describe("an answer without a rating", () => {
  const rows = responseRows(6);
  const hit = rows[3]!.response;

  it.each<[string, Misbehaviour, RegExp]>([
    ["prose", { kind: "says", content: "Quite good, a 2 I would say." }, /has no rating/],
    ["a number out of range", { kind: "says", content: '{"explanation": "Wow.", "rating": 11}' }, /the rating is "11"/],
    ["a quoted rating", { kind: "says", content: 'It says {"rating": 3}' }, /has no rating/],
    ["a refusal", { kind: "refusal" }, /the judge refused: "I'm sorry/],
    ["a refusal field", { kind: "refusal field" }, /the judge refused/],
    ["an answer that was cut off", { kind: "cut off" }, /cut off at the limit of tokens/],
    ["nothing", { kind: "says", content: "" }, /the answer is empty/],
  ])("(%s) is asked for again under another key, then recorded as such, with what was said", async (_, misbehaviour, reason) => {
    const server = await misbehavingAt(hit, misbehaviour);
    const environment = testEnvironment();
    const summary = await judge(settings(server, rows), environment);
    expect(summary).toMatchObject({ judged: 6, unparsable: 1, failed: 0, usage: { answers: 6, inputTokens: 8 * 11 } });
    const keys = server.requests.filter(({ text }) => text === hit).map(({ key }) => key);
    expect(keys).toEqual([keys[0], `${keys[0]}-1`, `${keys[0]}-2`]);
    const output = readOutput(out);
    expect(output.filter(({ rating }) => rating === null)).toEqual([output[3]]);
    expect(output[3]).toMatchObject({ explanation: null, raw: expect.any(String) });
    if (misbehaviour.kind === "says") expect(output[3]!.raw).toBe(misbehaviour.content);
    expect(environment.notes.at(-1)).toMatch(/no rating of system "b", language fi, id "0": /);
    expect(environment.notes.at(-1)).toMatch(reason);
  });

  it("counts when a later one has a rating, with the usage of all", async () => {
    const server = await misbehavingAt(hit, { kind: "says", content: "Hm." }, 2);
    const summary = await judge(settings(server, rows), testEnvironment());
    expect(summary).toMatchObject({ judged: 6, unparsable: 0, usage: { inputTokens: 8 * 11, outputTokens: 8 * 7 } });
    expect(readOutput(out)[3]!.rating).toBe(ratingOf(hit));
  });

  it("is not asked for again by the next run, but with retryUnparsable, under a new key", async () => {
    const server = await misbehavingAt(hit, { kind: "says", content: "Hm." }, 3);
    await judge(settings(server, rows), testEnvironment());
    expect(await judge(settings(server, rows), testEnvironment())).toMatchObject({ judged: 0, unparsable: 1 });
    expect(server.requests).toHaveLength(8);
    expect(await judge(settings(server, rows, { retryUnparsable: true }), testEnvironment())).toMatchObject({ judged: 1, unparsable: 0 });
    expect(server.requests).toHaveLength(9);
    expect(new Set(server.requests.map(({ key }) => key)).size).toBe(9);
    expect(readOutput(out)[3]!.rating).toBe(ratingOf(hit));
  });
});

describe("a request that fails", () => {
  const rows = responseRows(6);
  const hit = rows[3]!.response;

  it.each<Misbehaviour>([
    { kind: "status", status: 500 },
    { kind: "status", status: 429, headers: { "retry-after-ms": "10" } },
    { kind: "cut" },
    { kind: "cut in the body" },
    { kind: "hang" },
    { kind: "stall in the body" },
    { kind: "not JSON" },
    { kind: "no choices" },
  ])("with $kind $status is made again", async (misbehaviour) => {
    const server = await misbehavingAt(hit, misbehaviour, 2);
    const summary = await judge(settings(server, rows, { timeout: 0.5 }), testEnvironment());
    expect(summary).toMatchObject({ judged: 6, unparsable: 0, failed: 0 });
    expect(server.requests).toHaveLength(8);
  });

  it("for good leaves its row without a rating, with the reason, and is made again by the next run", async () => {
    const server = await misbehavingAt(hit, { kind: "status", status: 400, error: { message: "too long for this model" } }, 1);
    expect(await judge(settings(server, rows), testEnvironment())).toMatchObject({ judged: 5, reused: 0, unparsable: 0, failed: 1 });
    expect(readOutput(out)[3]).toMatchObject({ rating: null, raw: null, error: "HTTP 400 (too long for this model)" });
    expect(await judge(settings(server, rows), testEnvironment())).toMatchObject({ judged: 1, reused: 5, failed: 0 });
    expect(readOutput(out)[3]).not.toHaveProperty("error");
  });

  it("like all others ends the run, with what was judged kept and no output", async () => {
    const server = await startJudgeServer({ misbehave: ({ number }) => (number > 5 ? { kind: "status", status: 400 } : null) });
    const many = settings(server, responseRows(40));
    await expect(judge(many, testEnvironment())).rejects.toMatchObject({
      code: "INCOMPLETE",
      message: expect.stringContaining("the last 10 requests all failed"),
    });
    expect(existsSync(out)).toBe(false);
    const healed = await startJudgeServer();
    expect(await judge({ ...many, baseUrl: healed.url }, testEnvironment())).toMatchObject({ judged: 35, reused: 5 });
  });

  it.each([
    [401, {}, /HTTP 401 .*--api-key-env/],
    [404, {}, /HTTP 404 .*--model/],
    [429, { code: "insufficient_quota", message: "no credit" }, /has no credit left. What was answered is kept/],
  ])("with HTTP %s %o ends the run at once", async (status, error, message) => {
    const server = await startJudgeServer({ misbehave: () => ({ kind: "status", status, error }) });
    await expect(judge(settings(server, rows, { concurrency: 1 }), testEnvironment())).rejects.toThrow(message);
    expect(server.requests).toHaveLength(1);
  });
});

describe("the form of the answer", () => {
  /** A server that takes only some forms. */
  function startPicky(takes: readonly (string | undefined)[], status = 400): Promise<ChatServer> {
    return startJudgeServer({
      honoursKeys: true,
      misbehave: ({ body }) => {
        const type = (body.response_format as { readonly type: string } | undefined)?.type;
        return takes.includes(type) ? null : { kind: "status", status, error: { message: `response_format type ${type} is unavailable` } };
      },
    });
  }

  it.each<[string, readonly (string | undefined)[], number, number, RegExp]>([
    ["json_object", ["json_object", undefined], 400, 1, /does not take response_format json_schema; json_object is sent from now on/],
    ["none", [undefined], 422, 2, /does not take response_format json_object; none is sent from now on/],
  ])("falls back to %s where the server takes no other, for all further requests", async (_, takes, status, lost, note) => {
    const server = await startPicky(takes, status);
    const environment = testEnvironment();
    const rows = responseRows(10);
    const summary = await judge(settings(server, rows, { concurrency: 1 }), environment);
    expect(summary).toMatchObject({ judged: 10, failed: 0 });
    expect(server.requests).toHaveLength(10 + lost);
    expect(environment.notes.at(-1)).toMatch(note);
    expect(new Set(server.requests.map(({ key }) => key)).size).toBe(10 + lost);
    const parallel = await startPicky(takes, status);
    expect(await judge({ ...settings(parallel, rows), journal: join(folder, "other") }, testEnvironment())).toMatchObject({ judged: 10 });
  });

  it("stays where one is asked for", async () => {
    const server = await startPicky([undefined]);
    expect(await judge(settings(server, responseRows(2), { responseFormat: "json_object" }), testEnvironment())).toMatchObject({
      failed: 2,
    });
    expect(await judge(settings(server, responseRows(2), { responseFormat: "none" }), testEnvironment())).toMatchObject({ judged: 2 });
  });
});

describe("the journal", () => {
  const rows = responseRows(30);

  it("has all answers after a stop, which writes no output", async () => {
    const server = await startJudgeServer({ latencyMs: 5, honoursKeys: true });
    const controller = new AbortController();
    const running = judge(settings(server, rows), testEnvironment(controller.signal));
    await server.received(10);
    controller.abort();
    await expect(running).rejects.toMatchObject({
      code: "CANCELLED",
      message: expect.stringMatching(/kept in .*judgements\.jsonl\.journal\. Run/),
    });
    expect(existsSync(out)).toBe(false);
    const asked = server.requests.length;
    expect(asked).toBeLessThan(30);
    expect(await judge(settings(server, rows), testEnvironment())).toMatchObject({ judged: 30 - asked, reused: asked });
    expect(server.requests).toHaveLength(30);
  });

  it("lists what was under way at a kill and asks for it with the same key", async () => {
    const server = await startJudgeServer();
    await judge(settings(server, rows), testEnvironment());
    const journal = `${out}.journal`;
    // As a kill leaves it: the last line cut, so that its request is still under way.
    const lines = readFileSync(journal, "utf8").trimEnd().split("\n");
    const last = JSON.parse(lines.at(-1)!) as { readonly hash: string };
    writeFileSync(journal, `${lines.slice(0, -1).join("\n")}\n${lines.at(-1)!.slice(0, 20)}`);
    const environment = testEnvironment();
    expect(await judge(settings(server, rows), environment)).toMatchObject({ judged: 1, reused: 29 });
    expect(environment.notes[0]).toMatch(
      /^1 request was under way when the last run ended, .*: system "[ab]", language (en|fi), id "\d+"$/,
    );
    expect(last.hash).toHaveLength(22);
    expect(server.requests.filter(({ key }) => key === server.requests.at(-1)!.key)).toHaveLength(2);
  });

  it("that is broken inside is refused by line, before anything is asked", async () => {
    const server = await startJudgeServer();
    await judge(settings(server, rows), testEnvironment());
    appendFileSync(`${out}.journal`, '{"hash":"x"}\n{"sent":"y"}\n');
    await expect(judge(settings(server, rows), testEnvironment())).rejects.toMatchObject({
      code: "BAD_RECORD",
      message: expect.stringMatching(/judgements\.jsonl\.journal line 62: not a line of a judgement journal/),
    });
    expect(server.requests).toHaveLength(30);
  });
});
