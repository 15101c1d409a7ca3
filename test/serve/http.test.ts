/** What the server does about HTTP itself: limits, keys, clients that leave or do not read, and its own end. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type OpenAI from "openai";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { PolypacaError } from "../../src/errors.js";
import { isLoopback, isLoopbackHostHeader } from "../../src/serve/loopback.js";
import { startServer } from "../../src/serve/serve.js";
import type { ServedModels } from "../../src/serve/served-models.js";
import { scriptedEngine, scriptedModels } from "./scripted-engine.js";
import { clientOf, environmentOf, type ScriptedServer, settingsOf, startScripted } from "./scripted-server.js";

const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "Hi" }];
const body = JSON.stringify({ model: "base", messages });
const json = { "content-type": "application/json" };

function post(server: { readonly url: string }, init: RequestInit = {}, path = "/v1/chat/completions"): Promise<Response> {
  return fetch(`${server.url}${path}`, { method: "POST", headers: json, body, ...init });
}

async function errorOf(response: Response): Promise<{ message: string; type: string; param: string | null; code: string | null }> {
  const { error } = (await response.json()) as { error: { message: string; type: string; param: string | null; code: string | null } };
  expect(Object.keys(error)).toEqual(["message", "type", "param", "code"]);
  return error;
}

async function metric(server: { readonly url: string }, line: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const found = text.split("\n").find((row) => row.startsWith(`${line} `));
  return found === undefined ? 0 : Number(found.slice(line.length + 1));
}

/** A connection of which the test writes every byte. */
async function rawConnection({ url }: { readonly url: string }): Promise<{ socket: Socket; received: () => string }> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.on("data", (data) => {
    text += data.toString();
  });
  socket.on("error", () => {});
  await once(socket, "connect");
  return { socket, received: () => text };
}

function until(claim: () => boolean): Promise<void> {
  return vi.waitFor(() => expect(claim()).toBe(true), { timeout: 10_000, interval: 5 });
}

describe("requests that are wrong get an error in OpenAI's form:", () => {
  it.each<[string, RequestInit & { readonly path?: string }, number, string]>([
    ["a body that is no JSON", { body: '{"model": ' }, 400, "invalid_json"],
    ["a body that is no UTF-8", { body: Buffer.from([0x7b, 0xff, 0x7d]) }, 400, "invalid_json"],
    ["no body", { body: "" }, 400, "invalid_json"],
    ["another content type", { headers: { "content-type": "text/plain" } }, 415, "unsupported_media_type"],
    ["a compressed body", { headers: { ...json, "content-encoding": "gzip" } }, 415, "unsupported_media_type"],
    ["a body over the limit", { body: JSON.stringify({ model: "base", messages, user: "x".repeat(3_000) }) }, 413, "body_too_large"],
    ["a body far over the limit", { body: "x".repeat(30_000) }, 413, "body_too_large"],
    ["an unknown path", { path: "/v1/embeddings" }, 404, "unknown_url"],
    ["another method", { method: "PUT" }, 405, "method_not_allowed"],
    ["a question about other origins", { method: "OPTIONS", body: null }, 405, "method_not_allowed"],
    ["an unknown model", { body: JSON.stringify({ model: "gpt-4o", messages }) }, 404, "model_not_found"],
    ["tools", { body: JSON.stringify({ model: "base", messages, tools: [{}] }) }, 400, "unsupported_parameter"],
    ["earlier turns", { body: JSON.stringify({ model: "base", messages: [...messages, ...messages] }) }, 400, "invalid_value"],
    ["deep nesting", { body: `{"model":"base","messages":${"[".repeat(900)}${"]".repeat(900)}}` }, 400, "invalid_value"],
  ])("%s", async (_, { path, ...init }, status, code) => {
    const server = await startScripted(() => ["a"], { limits: { maxBodyBytes: 2_000 } });
    const response = await post(server, init, path);
    expect(response.status).toBe(status);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("access-control-allow-origin")).toBeNull();
    expect((await errorOf(response)).code).toBe(code);
    expect((await post(server)).status).toBe(200); // and the server goes on
  });

  it("a prompt that leaves no room for the answer", async () => {
    const server = await startScripted(() => ["a"], { maxLength: 150 });
    const ask = (fields: object) => server.client.chat.completions.create({ model: "base", messages, ...fields });
    const refusal = { status: 400, code: "context_length_exceeded", param: "messages" };
    await expect(ask({ max_tokens: 100 })).rejects.toMatchObject({ ...refusal, message: expect.stringMatching(/142 tokens and 100 are/) });
    await expect(ask({ messages: [{ role: "user", content: "x".repeat(10) }] })).rejects.toMatchObject(refusal);
    await expect(ask({ messages: [{ role: "user", content: "x".repeat(700) }] })).rejects.toMatchObject({
      ...refusal,
      message: expect.stringContaining("700 characters"),
    });
    await expect(server.client.completions.create({ model: "base", prompt: "" })).rejects.toMatchObject({ status: 400, param: "prompt" });
    expect(server.engine.asked).toEqual([]);
  });

  it("what is no HTTP at all", async () => {
    const { socket, received } = await rawConnection(await startScripted(() => []));
    socket.write("hello\r\n\r\n");
    await once(socket, "close");
    expect(received()).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(received()).toMatch(/\{"error":\{"message":"Bad Request\.","type":"invalid_request_error","param":null,"code":"bad_http"\}\}$/);
  });

  it("headers that are too long, or do not come", async () => {
    const server = await startScripted(() => [], { limits: { headersTimeoutMs: 100, bodyTimeoutMs: 200 } });
    const long = await rawConnection(server);
    long.socket.write(`GET / HTTP/1.1\r\nx: ${"y".repeat(20_000)}\r\n\r\n`);
    const slow = await rawConnection(server);
    slow.socket.write("GET /health HTTP/1.1\r\nho");
    const slowBody = await rawConnection(server);
    slowBody.socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{`,
    );
    await Promise.all([long, slow, slowBody].map(({ socket }) => once(socket, "close")));
    expect(long.received()).toMatch(/^HTTP\/1\.1 431 /);
    expect(slow.received()).toMatch(/^HTTP\/1\.1 408 /);
    expect(slowBody.received()).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe("the key", () => {
  it("is asked for under /v1, and only there", async () => {
    const server = await startScripted(() => ["a"], { apiKey: "secret" });
    for (const authorization of ["", "Bearer", "Bearer wrong", "Bearer secret2", "Basic secret", "secret"]) {
      const response = await post(server, { headers: { ...json, authorization } });
      expect([response.status, response.headers.get("www-authenticate")], authorization).toEqual([401, "Bearer"]);
      expect((await errorOf(response)).code).toBe("invalid_api_key");
    }
    expect((await fetch(`${server.url}/v1/models`)).status).toBe(401);
    expect((await fetch(`${server.url}/v1/nothing`)).status).toBe(401);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect((await server.client.chat.completions.create({ model: "base", messages })).choices[0]!.message.content).toBe("a");
    expect(server.engine.asked).toHaveLength(1);
  });

  it("is recommended where others can reach the server", async () => {
    const open = await startScripted(() => [], { host: "0.0.0.0" });
    expect(open.notes.join("\n")).toMatch(/warning: http:\/\/0\.0\.0\.0:\d+ is open to the network and asks for no key.*--api-key-env/);
    const closed = await startScripted(() => [], { host: "0.0.0.0", apiKey: "k" });
    expect((await startScripted(() => [])).notes.join("\n") + closed.notes.join("\n")).not.toContain("warning");
  });
});

describe("a server for this machine alone", () => {
  it("refuses requests under other names (DNS rebinding), unless it has a key", async () => {
    const ask = async (server: ScriptedServer, host: string): Promise<string> => {
      const { socket, received } = await rawConnection(server);
      socket.write(`GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nauthorization: Bearer k\r\nconnection: close\r\n\r\n`);
      await once(socket, "close");
      return received();
    };
    const server = await startScripted(() => []);
    expect(await ask(server, "attacker.example:8000")).toMatch(/^HTTP\/1\.1 403 .*wrong_host/s);
    expect(await ask(server, "localhost:8000")).toMatch(/^HTTP\/1\.1 200 /);
    expect(await ask(await startScripted(() => [], { apiKey: "k" }), "behind.example")).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("knows its own names", () => {
    expect(["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"].map(isLoopback)).toEqual(Array(6).fill(true));
    expect(["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org", ""].map(isLoopback)).toEqual(Array(6).fill(false));
    expect(["localhost", "127.0.0.1:80", "[::1]:80"].map(isLoopbackHostHeader)).toEqual([true, true, true]);
    expect([undefined, "", "evil.example", "[::2]", "localhost.evil.example:80"].map(isLoopbackHostHeader)).toEqual(Array(5).fill(false));
  });
});

describe("a full queue", () => {
  it("refuses further requests with Retry-After, and takes them when there is room again", async () => {
    const server = await startScripted(() => ["a"], { slots: 2, limits: { queue: 1 } });
    server.engine.hold();
    const running = Array.from({ length: 3 }, () => post(server));
    await until(() => server.engine.asked.length === 3);
    const refused = await post(server);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
    expect(await errorOf(refused)).toMatchObject({ type: "rate_limit_exceeded", code: "queue_full" });
    expect([await metric(server, "polypaca_sequences_running"), await metric(server, "polypaca_sequences_waiting")]).toEqual([2, 1]);
    server.engine.release();
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await post(server)).status).toBe(200);
  });

  it("refuses at once what it could never take, and takes a request whole or not at all", async () => {
    const server = await startScripted(() => ["a"], { slots: 2, limits: { queue: 1 } });
    const ask = (n: number) => server.client.chat.completions.create({ model: "base", messages, n });
    await expect(ask(4)).rejects.toMatchObject({ status: 400, param: "n" });
    server.engine.hold();
    const two = ask(2);
    await until(() => server.engine.asked.length === 2);
    await expect(ask(2)).rejects.toMatchObject({ status: 429 });
    expect(server.engine.asked).toHaveLength(2);
    server.engine.release();
    expect((await two).choices).toHaveLength(2);
  });
});

describe("a client that leaves", () => {
  it.each([
    ["while it reads a stream", true],
    ["while it waits for a whole answer", false],
  ])("%s, gives its place back", async (_, stream) => {
    const server = await startScripted(() => ["a".repeat(4_000)], { slots: 1, limits: { queue: 0 } });
    const controller = new AbortController();
    const response = post(server, { body: JSON.stringify({ model: "base", messages, stream, n: 1 }), signal: controller.signal });
    await until(() => server.engine.running === 1);
    if (stream) await (await response).body!.getReader().read();
    expect((await post(server)).status).toBe(429);
    controller.abort();
    await response.catch(() => {});
    await until(() => server.engine.cancelled() === 1);
    expect(server.engine.running).toBe(0);
    await vi.waitFor(async () =>
      expect(await metric(server, 'polypaca_http_requests_total{route="/v1/chat/completions",status="499"}')).toBe(stream ? 0 : 1),
    );
    expect(await metric(server, "polypaca_sequences_cancelled_total")).toBe(1);
    const next = await post(server, { body: JSON.stringify({ model: "base", messages, max_tokens: 2 }) });
    expect(next.status).toBe(200);
  });

  it("while it waits for a slot, gives its place back before a token comes", async () => {
    const server = await startScripted(() => ["a"], { slots: 1, limits: { queue: 1 } });
    server.engine.hold();
    const first = post(server);
    await until(() => server.engine.asked.length === 1);
    const controller = new AbortController();
    const second = post(server, { signal: controller.signal }).catch(() => "left");
    await until(() => server.engine.waiting === 1);
    controller.abort();
    expect(await second).toBe("left");
    await until(() => server.engine.waiting === 0);
    server.engine.release();
    expect((await first).status).toBe(200);
  });
});

describe("the reader of a stream who does not read", () => {
  it("is waited for: no more than the sockets' buffers is kept, and all arrives in the end", async () => {
    const tokens = 30_000;
    const server = await startScripted(() => ["a".repeat(tokens)], { maxLength: 40_000 });
    const { socket, received } = await rawConnection(server);
    socket.pause();
    const request = JSON.stringify({ model: "base", messages, stream: true });
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${request.length}\r\n\r\n${request}`,
    );
    let taken = -1;
    await vi.waitFor(
      async () => {
        const before = taken;
        taken = await metric(server, "polypaca_generated_tokens_total");
        expect(taken > 0 && taken === before).toBe(true);
      },
      { timeout: 20_000, interval: 300 },
    );
    expect(taken).toBeLessThan(tokens);
    socket.resume();
    await once(socket, "close");
    expect(received().match(/"content":"a"/g)).toHaveLength(tokens);
    expect(received()).toContain("data: [DONE]");
  });

  it("is dropped after the stall timeout", async () => {
    const server = await startScripted(() => ["a".repeat(30_000)], { maxLength: 40_000, limits: { stallTimeoutMs: 200 } });
    const { socket } = await rawConnection(server);
    socket.pause();
    const request = JSON.stringify({ model: "base", messages, stream: true });
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${request.length}\r\n\r\n${request}`,
    );
    await until(() => server.engine.cancelled() === 1);
    expect(server.notes.join("\n")).toMatch(/the client took nothing for 0\.2 s; dropped/);
  });
});

describe("a request that takes too long", () => {
  it("ends with 504, which clients do not repeat", async () => {
    const server = await startScripted(() => ["a"], { limits: { requestTimeoutMs: 100 } });
    server.engine.hold();
    const response = await post(server);
    expect([response.status, response.headers.get("x-should-retry")]).toEqual([504, "false"]);
    expect(await errorOf(response)).toMatchObject({ type: "server_error", code: "timeout" });
    await until(() => server.engine.running === 0);
  });

  it("ends a stream with an error, which the client throws", async () => {
    const server = await startScripted(() => ["a".repeat(100_000)], { maxLength: 200_000, limits: { requestTimeoutMs: 300 } });
    const stream = await server.client.chat.completions.create({ model: "base", messages, stream: true });
    const read = async (): Promise<void> => {
      for await (const _chunk of stream);
    };
    await expect(read()).rejects.toMatchObject({ code: "timeout" });
    expect(server.engine.running).toBe(0);
  });
});

describe("an engine that fails", () => {
  it("before the first token, gives the error its status, and ends the other choices", async () => {
    const fault = new PolypacaError("NOT_FINITE", "scores are of no use");
    const server = await startScripted((_, { seed }) => (seed === 1 ? [fault] : ["a".repeat(1_000)]));
    for (const stream of [false, true]) {
      const response = await post(server, { body: JSON.stringify({ model: "base", messages, seed: 1, n: 2, stream }) });
      if (!stream) expect(response.status).toBe(500);
      expect(await response.text()).toContain('"code":"not_finite"');
      await until(() => server.engine.running === 0);
    }
    expect(server.notes.join("\n")).toMatch(/POST \/v1\/chat\/completions: NOT_FINITE: scores are of no use/);
  });

  it("shows nothing of an internal error but that there was one", async () => {
    const server = await startScripted(() => [new Error("a path of this machine")]);
    const response = await post(server);
    expect([response.status, await response.text()]).toEqual([500, expect.not.stringContaining("path")]);
    expect(server.notes.join("\n")).toContain("a path of this machine");
  });

  it("in the middle of a stream, ends it with the error and without [DONE]", async () => {
    const server = await startScripted(() => ["abc", new PolypacaError("NOT_FINITE", "no more")]);
    const text = await (await post(server, { body: JSON.stringify({ model: "base", messages, stream: true }) })).text();
    expect(text).toContain('"content":"c"');
    expect(text).toMatch(
      /data: \{"error":\{"message":"NOT_FINITE: no more","type":"server_error","param":null,"code":"not_finite"\}\}\n\n$/,
    );
  });
});

describe("starting and stopping", () => {
  it("is not ready while the model is being loaded, and is then", async () => {
    const engine = scriptedEngine(() => ["a"]);
    let finish = (_models: ServedModels): void => {};
    const notes: string[] = [];
    const starting = startServer(settingsOf(), environmentOf(notes), () => new Promise((resolve) => (finish = resolve)));
    await until(() => notes.some((line) => line.includes("loading base")));
    const url = /http:\S+\d/.exec(notes.join("\n"))![0];
    const early = await Promise.all([fetch(`${url}/health`), fetch(`${url}/v1/models`), post({ url })]);
    expect(early.map(({ status, headers }) => [status, headers.get("retry-after")])).toEqual(Array(3).fill([503, "1"]));
    expect((await fetch(`${url}/metrics`)).status).toBe(200);
    finish(scriptedModels(engine));
    const server = await starting;
    expect((await fetch(`${url}/health`)).status).toBe(200);
    await server.stop();
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });

  it("says which port is taken", async () => {
    const { url } = await startScripted(() => []);
    const port = Number(new URL(url).port);
    const again = startServer(settingsOf({ port }), environmentOf([]), () => Promise.reject(new Error("must not be opened")));
    await expect(again).rejects.toMatchObject({ code: "USAGE", message: expect.stringMatching(/^--port \d+: another program/) });
  });

  it("frees the port where the model cannot be opened", async () => {
    const notes: string[] = [];
    const fault = new PolypacaError("OUT_OF_MEMORY", "too large");
    await expect(startServer(settingsOf(), environmentOf(notes), () => Promise.reject(fault))).rejects.toBe(fault);
    await expect(fetch(/http:\S+\d/.exec(notes.join("\n"))![0])).rejects.toThrow();
  });

  it("lets running answers finish, and takes no others", async () => {
    const server = await startScripted(() => ["abc"]);
    server.engine.hold();
    const agent = clientOf(server.url);
    const running = agent.chat.completions.create({ model: "base", messages });
    await until(() => server.engine.running === 1);
    const kept = await rawConnection(server); // a connection that was there before
    kept.socket.write("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
    await until(() => kept.received().includes("ready"));
    const busy = await rawConnection(server);
    busy.socket.write("POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{");
    await sleep(50);
    const stopped = server.stop();
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    server.engine.release();
    expect((await running).choices[0]!.message.content).toBe("abc");
    busy.socket.write("}");
    await stopped;
    await until(() => busy.received() !== ""); // it began before
    expect(busy.received()).toMatch(/^HTTP\/1\.1 400 .*"param":"model"/s);
  });

  it("ends what does not finish in time, and says why", async () => {
    const server = await startScripted(() => ["a"], { shutdownTimeoutMs: 100 });
    server.engine.hold();
    const running = post(server);
    await until(() => server.engine.running === 1);
    await server.stop();
    const response = await running;
    expect([response.status, (await errorOf(response)).message]).toEqual([503, "The server stops."]);
    expect(server.engine.cancelled()).toBe(1);
  });
});

describe("/metrics", () => {
  it("counts requests, tokens and times, and shows the engine and the memory", async () => {
    const server = await startScripted(() => ["abc"], { slots: 3 });
    await post(server);
    await post(server, { body: "{" });
    await fetch(`${server.url}/nothing`);
    const response = await fetch(`${server.url}/metrics`);
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const text = await response.text();
    for (const line of [
      'polypaca_http_requests_total{route="/v1/chat/completions",status="200"} 1',
      'polypaca_http_requests_total{route="/v1/chat/completions",status="400"} 1',
      'polypaca_http_requests_total{route="other",status="404"} 1',
      "polypaca_prompt_tokens_total 142",
      "polypaca_generated_tokens_total 4",
      "polypaca_sequences_running 0",
      "polypaca_kv_slots 3",
      "polypaca_kv_slot_tokens 4096",
      "polypaca_time_to_first_token_seconds_count 1",
      "polypaca_time_per_token_seconds_count 3",
      "polypaca_request_seconds_count 2",
      "process_resident_memory_bytes 12345",
    ]) {
      expect(text.split("\n")).toContain(line);
    }
  });
});
