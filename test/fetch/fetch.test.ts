import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { defaultRetryPolicy } from "../../src/endpoint/retry.js";
import { PolypacaError } from "../../src/errors.js";
import { type FetchEnvironment, type FetchResult, fetchRepository } from "../../src/fetch/fetch.js";
import { fetchManifestName } from "../../src/fetch/manifest.js";
import type { FetchSettings } from "../../src/fetch/settings.js";
import { numbersFrom, temporaryFolder } from "../data/data-folder.js";
import { bytes, filesIn, index, modelFiles, only, partBytes, testEnvironment, wantedOfModel } from "./fetch-cases.js";
import { commitOf, type Files, type HubOptions, type HubRepository, type HubServer, type Misbehaviour, startHub } from "./hub-server.js";

const name = "lab/tiny-bloom";
const commit = commitOf(modelFiles);

function modelRepository(more: Partial<HubRepository> = {}): HubRepository {
  return { kind: "model", name, revisions: { main: modelFiles }, card: { license: "apache-2.0" }, ...more };
}

const hubOf = (options: Partial<HubOptions> = {}): Promise<HubServer> => startHub({ repositories: [modelRepository()], ...options });

async function newOut(): Promise<string> {
  return join(await temporaryFolder(), "model");
}

function fetchModel(
  server: HubServer,
  out: string,
  more: Partial<FetchEnvironment> = {},
  settings: Partial<FetchSettings> = {},
): Promise<FetchResult> {
  return fetchRepository({ kind: "model", repo: name, out, ...settings }, testEnvironment(server, more));
}

async function failure(promise: Promise<unknown>): Promise<PolypacaError> {
  const cause: unknown = await promise.then(
    () => new Error("nothing was thrown"),
    (thrown: unknown) => thrown,
  );
  expect(cause).toBeInstanceOf(PolypacaError);
  return cause as PolypacaError;
}

describe("fetching a model", () => {
  it("brings weights, configuration, tokenizer and terms, byte for byte, and says commit and licence", async () => {
    const server = await hubOf({ pageSize: 4 });
    const out = await newOut();
    const environment = testEnvironment(server);
    const result = await fetchRepository({ kind: "model", repo: name, out }, environment);
    const wanted = only(modelFiles, wantedOfModel);
    expect(filesIn(out)).toEqual(wanted);
    const total = wantedOfModel.reduce((sum, path) => sum + modelFiles[path]!.length, 0);
    expect(result).toMatchObject({
      repository: name,
      revision: "main",
      commit,
      licence: "apache-2.0",
      out,
      bytes: total,
      fetchedBytes: total,
    });
    expect(environment.lines).toEqual([`${name}@main is commit ${commit}`, `licence: apache-2.0 (${server.url}/${name})`]);
    const manifest = JSON.parse(readFileSync(join(out, fetchManifestName), "utf8")) as { files: { path: string }[] };
    expect(manifest).toMatchObject({ repository: name, commit, licence: "apache-2.0" });
    expect(manifest.files.map(({ path }) => path)).toEqual(wantedOfModel);
    expect(existsSync(`${out}.part`)).toBe(false);
  });

  it("takes pytorch_model.bin where there are no safetensors, with its shards, and what is included", async () => {
    const files: Files = {
      "config.json": modelFiles["config.json"]!,
      "modeling_x.py": Buffer.from("pass"),
      "pytorch_model-00001-of-00001.bin": bytes(2_000, 1),
      "pytorch_model.bin.index.json": index(["pytorch_model-00001-of-00001.bin"]),
      "tokenizer.model": bytes(1_500, 2),
    };
    const server = await startHub({ repositories: [modelRepository({ revisions: { main: files } })] });
    const [plain, included] = [await newOut(), await newOut()];
    await fetchModel(server, plain);
    expect(filesIn(plain)).toEqual(
      only(
        files,
        Object.keys(files).filter((path) => !path.endsWith(".py")),
      ),
    );
    await fetchModel(server, included, {}, { include: ["*.py"] });
    expect(filesIn(included)).toEqual(only(files, Object.keys(files)));
  });

  it("sends the token to the hub alone, not to where the hub keeps its large files", async () => {
    const server = await hubOf({ repositories: [modelRepository({ gated: "manual", tokens: ["a-token"] })] });
    await fetchModel(server, await newOut(), { token: "a-token" });
    expect(new Set(server.requests.map(({ token }) => token))).toEqual(new Set(["a-token"]));
    expect(server.storageRequests.length).toBeGreaterThan(0);
    expect(new Set(server.storageRequests.map(({ token }) => token))).toEqual(new Set([null]));
  });

  it("fetches nothing a second time, and asks no hub where the commit was given", async () => {
    const server = await hubOf();
    const out = await newOut();
    await fetchModel(server, out);
    const sent = server.sentBytes();
    expect(await fetchModel(server, out)).toMatchObject({ fetchedBytes: 0, commit });
    const asked = server.requests.length;
    expect(await fetchModel(server, out, {}, { repo: `${name}@${commit}` })).toMatchObject({ fetchedBytes: 0, revision: commit });
    expect([server.sentBytes(), server.requests.length]).toEqual([sent, asked]);
  });

  it("refuses a folder that holds another revision, another selection, a damaged fetch or something else, and leaves it", async () => {
    const repository = modelRepository();
    const server = await hubOf({ repositories: [repository] });
    const out = await newOut();
    await fetchModel(server, out);
    const included = await failure(fetchModel(server, out, {}, { include: ["*.bin"] }));
    expect(included.message).toMatch(/holds lab\/tiny-bloom at .*, with other --files or --include/);
    repository.revisions = { main: { ...modelFiles, "config.json": Buffer.from("{}") } };
    expect((await failure(fetchModel(server, out))).message).toMatch(/holds lab\/tiny-bloom at .* and lab\/tiny-bloom@main is at/);
    truncateSync(join(out, "tokenizer.json"), 5);
    expect((await failure(fetchModel(server, out, {}, { repo: `${name}@${commit}` }))).message).toMatch(/another length, tokenizer\.json/);
    const other = await newOut();
    await mkdir(other);
    writeFileSync(join(other, "thesis.txt"), "precious");
    expect(await failure(fetchModel(server, other))).toMatchObject({ code: "USAGE", message: expect.stringContaining("thesis.txt") });
    expect(readdirSync(other)).toEqual(["thesis.txt"]);
  });

  it("shows its progress up to the end, and how many files are done", async () => {
    const big = { ...modelFiles, "model-00001-of-00002.safetensors": bytes(3 * 2 ** 20, 9) };
    const server = await hubOf({ repositories: [modelRepository({ revisions: { main: big } })] });
    const shown: { done: number; detail: string }[] = [];
    const tasks: object[] = [];
    await fetchModel(server, await newOut(), {
      openProgress: (task) => {
        tasks.push(task);
        return { update: (done, detail) => void shown.push({ done, detail }), note: () => {}, stop: () => {} };
      },
    });
    expect(tasks).toEqual([{ label: "fetch (MiB)", start: 0, total: 4 }]);
    expect(shown.at(-1)).toEqual({ done: 4, detail: expect.stringMatching(/^\d+\.\d MiB\/s, 10 of 10 files$/) });
    expect(shown.map(({ done }) => done)).toEqual(shown.map(({ done }) => done).toSorted((a, b) => a - b));
  });
});

describe("fetching data", () => {
  const files: Files = {
    "LICENSE.md": Buffer.from("CC BY-NC 4.0"),
    "README.md": Buffer.from("# Data"),
    "data/alpaca.en.json": bytes(2_000, 1),
    "data/alpaca.fi.json": bytes(2_500, 2),
    "data/train.parquet": bytes(5_000, 3),
    "test.jsonl": bytes(300, 4),
  };
  const repositories: HubRepository[] = [
    { kind: "data", name: "lab/alpacas", revisions: { main: files }, card: { license: ["mit", "cc0-1.0"] } },
  ];
  const fetchData = async (settings: Partial<FetchSettings>): Promise<string> => {
    const out = await newOut();
    await fetchRepository({ kind: "data", repo: "lab/alpacas", out, ...settings }, testEnvironment(await startHub({ repositories })));
    return out;
  };
  const terms = ["LICENSE.md", "README.md"];

  it.each([
    ["all of JSON and JSONL, in their folders", {}, ["data/alpaca.en.json", "data/alpaca.fi.json", "test.jsonl"]],
    ["those that --files names", { files: ["alpaca.f?.json"] }, ["data/alpaca.fi.json"]],
    ["others that --include names", { files: ["*.jsonl"], include: ["data/**"] }, Object.keys(files).filter((path) => !/^[LR]/.test(path))],
  ])("brings %s", async (_, settings, wanted) => {
    expect(filesIn(await fetchData(settings))).toEqual(only(files, [...terms, ...wanted]));
  });

  it.each([
    [
      "a pattern without a file",
      { files: ["*.csv"] },
      /--files \*\.csv: matches none of the files of lab\/alpacas: data\/alpaca\.en\.json/,
    ],
    ["a pattern of --include without one", { include: ["x/*"] }, /--include x\/\*: matches none/],
  ])("refuses %s", async (_, settings, message) => {
    expect(await failure(fetchData(settings))).toMatchObject({ code: "NOT_FOUND", message: expect.stringMatching(message) });
  });
});

describe("a repository made of a fetched folder", () => {
  it("is fetched without the manifest that came with it", async () => {
    const files: Files = { [fetchManifestName]: Buffer.from("{}"), "fetch.lock": Buffer.from("{}"), "a.json": Buffer.from("[]") };
    const server = await startHub({ repositories: [{ kind: "data", name: "lab/again", revisions: { main: files } }] });
    const out = await newOut();
    const fetchAgain = () => fetchRepository({ kind: "data", repo: "lab/again", out, include: ["a*"] }, testEnvironment(server));
    await fetchAgain();
    expect(filesIn(out)).toEqual(only(files, ["a.json"]));
    expect(await fetchAgain()).toMatchObject({ fetchedBytes: 0, files: [{ path: "a.json" }] });
  });
});

describe("a hub that misbehaves", () => {
  const large = "model-00001-of-00002.safetensors";

  it.each<[string, Misbehaviour]>([
    ["cuts the connection", { kind: "cut", after: 7_000 }],
    ["answers 503", { kind: "status", status: 503 }],
    ["answers 429", { kind: "status", status: 429, headers: { "retry-after": "0" } }],
    ["stalls", { kind: "hold", after: 9_000 }],
  ])("is asked again where it %s, for the rest alone", async (_, misbehaviour) => {
    let requests = 0;
    const server = await hubOf({ misbehave: ({ path }) => (path === large && requests++ % 2 === 0 && requests < 6 ? misbehaviour : null) });
    const out = await newOut();
    await fetchModel(server, out, { timeoutMs: 150 }, { concurrency: 1 });
    expect(filesIn(out)).toEqual(only(modelFiles, wantedOfModel));
    expect(server.sentBytes(large)).toBe(50_000);
    expect(server.contents.filter(({ path }) => path === large).length).toBeGreaterThan(1);
  });

  it.each<Misbehaviour>([{ kind: "wrong bytes" }, { kind: "whole file" }, { kind: "another range" }])(
    "never gets a byte into the folder that is not the file's: %o",
    async (misbehaviour) => {
      const requests: number[] = [];
      const server = await hubOf({
        misbehave: ({ path, number }) => {
          if (path !== large) return null;
          requests.push(number);
          if (requests.length === 1) return { kind: "cut", after: 20_000 };
          return requests.length === 2 ? misbehaviour : null;
        },
      });
      const out = await newOut();
      await fetchModel(server, out);
      expect(filesIn(out)).toEqual(only(modelFiles, wantedOfModel));
    },
  );

  it("waits as long as Retry-After says", async () => {
    const waits: string[] = [];
    const server = await hubOf({
      misbehaveInfo: (number) => (number === 1 ? { kind: "status", status: 503, headers: { "retry-after": "0.2" } } : null),
      misbehave: ({ number }) => (number === 1 ? { kind: "status", status: 429, headers: { "retry-after": "0.3" } } : null),
    });
    const note = (line: string): void => void (line.includes("asked again") && waits.push(/in [\d.]+ s/.exec(line)![0]));
    await fetchModel(server, await newOut(), { note }, { concurrency: 1 });
    expect(waits).toEqual(["in 0.2 s", "in 0.3 s"]);
  });

  it("fails where the bytes are wrong every time, keeps what is right, and ends when it is mended", async () => {
    let isBroken = true;
    const server = await hubOf({ misbehave: ({ path }) => (isBroken && path === large ? { kind: "wrong bytes" } : null) });
    const out = await newOut();
    const error = await failure(fetchModel(server, out));
    expect(error).toMatchObject({ code: "INCOMPLETE" });
    expect(error.message).toMatch(
      /1 of 10 files failed: model-00001.*what came has the sha256 [0-9a-f]{64}, the hub lists .*kept in .*model\.part/,
    );
    expect(existsSync(out)).toBe(false);
    isBroken = false;
    const before = server.sentBytes();
    await fetchModel(server, out);
    expect(filesIn(out)).toEqual(only(modelFiles, wantedOfModel));
    expect(server.sentBytes() - before).toBe(50_000);
  });

  it("is given up after the retries, and the next call goes on from the byte that came last", async () => {
    let isDown = false;
    const server = await hubOf({
      misbehave: ({ path }) => {
        if (path !== large) return null;
        const first = !isDown;
        isDown = true;
        return first ? { kind: "cut", after: 31_000 } : { kind: "status", status: 502 };
      },
    });
    const out = await newOut();
    const retry = { ...defaultRetryPolicy, maxRetries: 2, firstDelayMs: 1, longestDelayMs: 1 };
    expect(await failure(fetchModel(server, out, { retry }))).toMatchObject({
      code: "INCOMPLETE",
      message: expect.stringMatching(/HTTP 502.*also after 2 retries/),
    });
    expect(partBytes(out, large)).toBe(31_000);
    const mended = await hubOf();
    await fetchModel(mended, out);
    expect(mended.contents.filter(({ path }) => path === large)).toEqual([expect.objectContaining({ from: 31_000, sent: 19_000 })]);
  });

  it("is recognised as none where it does not answer as a hub does", async () => {
    const server = await hubOf();
    const error = await failure(fetchModel({ ...server, url: `${server.url}/elsewhere` }, await newOut()));
    expect(error).toMatchObject({ code: "NOT_FOUND" });
    const closed = await failure(
      fetchModel({ ...server, url: "http://127.0.0.1:9" }, await newOut(), {
        retry: { ...defaultRetryPolicy, maxRetries: 1, firstDelayMs: 1 },
      }),
    );
    expect(closed.message).toMatch(/^http:\/\/127\.0\.0\.1:9 does not answer: .*also after 1 retry/);
  });
});

describe("a branch that moves while it is fetched", () => {
  it("never mixes two revisions, and fetches what they share once", async () => {
    const repository = modelRepository();
    const large = "model-00001-of-00002.safetensors";
    let stop = new AbortController();
    const server = await hubOf({
      repositories: [repository],
      misbehave: ({ path, from }) => {
        if (path !== large) return null;
        if (from === 0) return { kind: "cut", after: 30_000 };
        stop.abort();
        return { kind: "status", status: 503 };
      },
    });
    const out = await newOut();
    expect((await failure(fetchModel(server, out, { signal: stop.signal }, { concurrency: 9 }))).code).toBe("CANCELLED");
    expect(partBytes(out, large)).toBe(30_000);
    const moved = { ...modelFiles, [large]: bytes(50_000, 77), "config.json": Buffer.from('{"model_type":"llama"}') };
    repository.revisions = { main: moved };
    stop = new AbortController();
    const next = await hubOf({ repositories: [repository] });
    await fetchModel(next, out);
    expect(filesIn(out)).toEqual(only(moved, wantedOfModel));
    expect(next.contents.filter(({ path }) => path === large)).toEqual([expect.objectContaining({ from: 0, sent: 50_000 })]);
    const again = server.contents.filter(({ path, sent }) => sent === modelFiles[path]!.length).map(({ path }) => path);
    expect(next.contents.map(({ path }) => path).filter((path) => again.includes(path) && path !== "config.json")).toEqual([]);
  });
});

describe("fetch refuses, saying what to do", () => {
  const gated = modelRepository({ gated: "manual", tokens: ["good"] });
  const hidden = modelRepository({ name: "lab/private", tokens: ["good"], isPrivate: true });
  const bare: Files = { "model.gguf": bytes(10, 1), "README.md": Buffer.from("x") };
  const incomplete: Files = {
    "config.json": Buffer.from("{}"),
    "model.safetensors.index.json": index(["model-00001-of-00001.safetensors"]),
  };
  const outside: Files = { ...modelFiles, "../../outside.json": Buffer.from("x") };
  const repositories = [
    gated,
    hidden,
    modelRepository({ name: "lab/bare", revisions: { main: bare } }),
    modelRepository({ name: "lab/cut", revisions: { main: incomplete } }),
    modelRepository({ name: "lab/evil", revisions: { main: outside } }),
  ];

  it.each<[string, string, string | null, string, RegExp]>([
    [
      "a gated repository without a token",
      name,
      null,
      "USAGE",
      /is gated, and no token was given\. Accept its licence at .*tiny-bloom.*settings\/tokens.*HF_TOKEN/,
    ],
    ["a gated repository that the account may not read", name, "other", "USAGE", /is gated, and the account of your token has no access/],
    [
      "what is not there, or private",
      "lab/private",
      null,
      "NOT_FOUND",
      /has no model repository lab\/private: check the spelling .*or it is private/,
    ],
    ["what the token may not see", "lab/private", "other", "NOT_FOUND", /or the token's account may not see it/],
    ["a token that is not taken", name, "expired", "USAGE", /does not take the token/],
    [
      "a revision that is not there",
      `${name}@v9`,
      "good",
      "NOT_FOUND",
      /lab\/tiny-bloom@v9: the repository has no such branch, tag or commit/,
    ],
    ["a repository without weights", "lab/bare", null, "NOT_FOUND", /it has none of model\.safetensors.*but model\.gguf, README\.md/],
    [
      "an index whose shards are missing",
      "lab/cut",
      null,
      "NOT_FOUND",
      /names model-00001-of-00001\.safetensors, which the repository lacks/,
    ],
    ["a path that leads out of the folder", "lab/evil", null, "BAD_DATA", /outside\.json", which would lead out of the folder/],
    ["an address", "https://hub.example/lab/x", null, "USAGE", /the repository's name alone/],
    ["no name", "lab/", null, "USAGE", /expected namespace\/name/],
  ])("%s", async (_, repo, token, code, message) => {
    const server = await startHub({ repositories });
    const out = await newOut();
    const error = await failure(fetchModel(server, out, { token }, { repo }));
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(existsSync(out)).toBe(false);
    if (repo !== "lab/cut" && !repo.startsWith(name)) expect(existsSync(`${out}.part`)).toBe(false);
  });

  it("a disk on which the rest does not fit, before it is fetched", async () => {
    const server = await hubOf();
    const out = await newOut();
    const error = await failure(fetchModel(server, out, { freeBytes: async () => 1_000 }));
    expect(error).toMatchObject({ code: "DISK_FULL", message: expect.stringMatching(/1 MiB are still to be fetched, and 1 MiB are free/) });
    expect(server.contents.map(({ path }) => path)).toEqual(["model.safetensors.index.json"]); // which says what is needed
  });

  it("two processes in one folder", async () => {
    const server = await hubOf({ misbehave: ({ path }) => (path === "tokenizer.json" ? { kind: "hold", after: 10 } : null) });
    const out = await newOut();
    const stop = new AbortController();
    const first = failure(fetchModel(server, out, { signal: stop.signal }));
    await expect.poll(() => server.contents.some(({ path }) => path === "tokenizer.json")).toBe(true);
    expect(await failure(fetchModel(server, out))).toMatchObject({
      code: "RUN_LOCKED",
      message: expect.stringContaining("has been fetching there"),
    });
    stop.abort();
    expect((await first).code).toBe("CANCELLED");
  });
});

describe("whatever breaks, and however often the user stops", () => {
  const seeds = Array.from({ length: 40 }, (_, seed) => seed);

  it.each(seeds)("the folder is the source's or absent (seed %i)", async (seed) => {
    const number = numbersFrom(seed * 7919 + 1);
    const out = await newOut();
    let stop = new AbortController();
    let isCalm = false;
    const ways: (() => Misbehaviour | null)[] = [
      () => null,
      () => null,
      () => ({ kind: "cut", after: number(30_000) }),
      () => ({ kind: "status", status: [429, 500, 503][number(3)]!, headers: { "retry-after": "0" } }),
      () => ({ kind: "wrong bytes" }),
      () => ({ kind: "whole file" }),
      () => ({ kind: "another range" }),
      () => {
        stop.abort();
        return { kind: "cut", after: number(20_000) };
      },
    ];
    const server = await hubOf({ misbehave: () => (isCalm ? null : ways[number(ways.length)]!()) });
    const retry = { ...defaultRetryPolicy, maxRetries: 2, firstDelayMs: 1, longestDelayMs: 1 };
    const wanted = only(modelFiles, wantedOfModel);
    for (let run = 0; run < 6; run++) {
      stop = new AbortController();
      const cause: unknown = await fetchModel(server, out, { signal: stop.signal, retry }, { concurrency: 1 + number(4) }).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      if (cause !== null) expect(["CANCELLED", "INCOMPLETE", "IO"]).toContain((cause as PolypacaError).code);
      expect(existsSync(out)).toBe(cause === null);
      if (cause === null) expect(filesIn(out)).toEqual(wanted);
    }
    isCalm = true;
    await fetchModel(server, out, { retry });
    expect(filesIn(out)).toEqual(wanted);
    rmSync(out, { recursive: true });
  });
});
