/** The library over real servers and files; what a killed process does is in test/long/translate-kill.test.ts. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { RequestFailure } from "../../src/endpoint/request.js";
import { defaultRetryPolicy } from "../../src/endpoint/retry.js";
import { openAiProvider } from "../../src/translate/providers/openai.js";
import { type LiveProvider, MisalignedAnswers, type SegmentRequest } from "../../src/translate/providers/provider.js";
import type { TranslateEnvironment, TranslateSettings } from "../../src/translate/settings.js";
import { exportSegments, translate, translateLockName } from "../../src/translate/translate.js";
import { alpaca, sampleDir, temporaryFolder } from "../data/data-folder.js";
import { type ChatServer, type Misbehaviour, startChatServer, translated } from "../endpoint/chat-server.js";

let out: string;
let notes: string[];

beforeEach(async () => {
  out = join(await temporaryFolder(), "out");
  notes = [];
});

function environment(signal?: AbortSignal): TranslateEnvironment {
  const note = (line: string): void => void notes.push(line);
  return {
    ...{ note, now: Date.now, random: () => 0, ...(signal && { signal }) },
    openProgress: () => ({ update: () => {}, note, stop: () => {} }),
  };
}

function settings(data: string, more: Partial<TranslateSettings> = {}): TranslateSettings {
  return { data, out, source: "en", targets: ["fi"], skipBadRecords: false, retry: 0, drop: false, prices: null, ...more };
}

function openAi({ url }: ChatServer): LiveProvider {
  return openAiProvider({
    ...{ model: "m", baseUrl: url, apiKey: "k", timeoutMs: 1_500, concurrency: 8, maxCharacters: 200, joinSentences: true },
    ...{ requestsPerMinute: null, tokensPerMinute: null, temperature: null, responseFormat: "json_object" },
    retry: { ...defaultRetryPolicy, firstDelayMs: 1, longestDelayMs: 5 },
  });
}

/** A provider that answers at once by `answer`, and keeps what it was asked. */
function instant(
  answer: (request: SegmentRequest, target: string) => string | RequestFailure,
  more: Partial<LiveProvider> = {},
): LiveProvider & { readonly asked: SegmentRequest[] } {
  const asked: SegmentRequest[] = [];
  return {
    ...{
      kind: "live",
      name: "instant",
      model: "m",
      maxCharacters: 500,
      joinSentences: true,
      concurrency: 3,
      mostFailuresInTurn: 10,
      asked,
    },
    open: async ({ target }) => ({
      translate: async (request) => {
        asked.push(request);
        const found = answer(request, target);
        if (found instanceof RequestFailure) throw found;
        return { text: found, usage: null };
      },
      end: async () => {},
      abandon: () => {},
    }),
    ...more,
  };
}

const marked = ({ text }: SegmentRequest, target: string): string => translated(text, target);

async function dataOf(records: readonly object[], name = "alpaca.en.json"): Promise<string> {
  const file = join(await temporaryFolder(), name);
  writeFileSync(file, JSON.stringify(records));
  return file;
}

function output(language = "fi"): Record<string, unknown>[] {
  return JSON.parse(readFileSync(join(out, `alpaca.${language}.json`), "utf8")) as Record<string, unknown>[];
}

function journalLines(language = "fi"): Record<string, unknown>[] {
  const lines = readFileSync(join(out, `journal.${language}.jsonl`), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("translate over a server that misbehaves in every way", () => {
  const ways: readonly Misbehaviour[] = [
    { kind: "status", status: 429, headers: { "retry-after-ms": "5" } },
    { kind: "status", status: 500 },
    { kind: "hang" },
    { kind: "cut" },
    { kind: "cut in the body" },
    { kind: "not JSON" },
    { kind: "refusal" },
    { kind: "cut off" },
  ];

  it("brings every record once, in order, with nothing lost, and is charged for each segment once where keys are honoured", async () => {
    const data = join(sampleDir, "alpaca.en.json");
    const way = (number: number): Misbehaviour | null => (number % 9 === 0 ? ways[(number / 9) % ways.length]! : null);
    const server = await startChatServer({ honoursKeys: true, misbehave: ({ number }) => way(number) });
    const summary = await translate(settings(data, { targets: ["fi", "de"] }), openAi(server), environment());
    const source = JSON.parse(readFileSync(data, "utf8")) as object[];
    for (const code of ["fi", "de"]) {
      const bare = JSON.parse(readFileSync(join(out, `alpaca.${code}.json`), "utf8").replaceAll(`⟪${code}⟫`, "")) as object[];
      expect(bare).toEqual(source);
      const { segments, translated, records, reused, failed } = summary.languages[code]!;
      expect({ translated, records, reused, failed }).toEqual({ translated: segments, records: 60, reused: 0, failed: 0 });
    }
    expect(server.unusable()).toBeGreaterThan(3);
    expect(server.charged()).toBe(summary.languages.fi!.segments + summary.languages.de!.segments + server.unusable());
    // What could not be used was charged for as well.
    const reported = server.charged() - server.unreported();
    expect(summary.usage).toMatchObject({ inputTokens: 11 * reported, outputTokens: 7 * reported, cost: null });
  });
});

describe("translate", () => {
  it("keeps other fields, leaves empty ones empty, sets the language, and cuts at lines", async () => {
    const record = {
      id: 7,
      topic: "x",
      instruction: "Say:\n- this\n- that",
      input: "",
      output: "Yes.\n\n`code`\n",
      language: "en",
      lang: "en",
    };
    await translate(settings(await dataOf([record, alpaca("A", "B", { input: null })])), instant(marked), environment());
    expect(output()).toEqual([
      { ...record, instruction: "⟪fi⟫Say:\n- ⟪fi⟫this\n- ⟪fi⟫that", output: "⟪fi⟫Yes.\n\n`code`\n", language: "fi", lang: "fi" },
      { instruction: "⟪fi⟫A", input: null, output: "⟪fi⟫B" },
    ]);
  });

  it("asks once for what comes often, and never again for what the journal has", async () => {
    const data = await dataOf([alpaca("Name it", "Yes"), alpaca("Name it", "Yes"), alpaca("Yes", "No")]);
    const provider = instant(marked);
    const first = await translate(settings(data), provider, environment());
    expect(provider.asked.map(({ text }) => text)).toEqual(["Name it", "Yes", "No"]);
    expect(first.languages.fi).toMatchObject({ records: 3, segments: 3, translated: 3, reused: 0 });
    const before = readFileSync(join(out, "alpaca.fi.json"));
    const again = await translate(settings(await dataOf([alpaca("Name it", "Yes"), alpaca("New", "No")])), provider, environment());
    expect(provider.asked.slice(3).map(({ text }) => text)).toEqual(["New"]);
    expect(again.languages.fi).toMatchObject({ records: 2, segments: 4, translated: 1, reused: 3 });
    await translate(settings(data), provider, environment());
    expect(provider.asked).toHaveLength(4);
    expect(readFileSync(join(out, "alpaca.fi.json")).equals(before)).toBe(true);
    await translate(settings(data), { ...provider, model: "other" }, environment());
    expect(provider.asked).toHaveLength(7);
  });

  it("records each request before it is made, with the answer after it", async () => {
    const seen: unknown[] = [];
    const provider = instant((request) => {
      seen.push(journalLines().at(-1));
      return marked(request, "fi");
    });
    await translate(settings(await dataOf([alpaca("A", "B")])), { ...provider, concurrency: 1 }, environment());
    expect(journalLines()).toEqual([
      { provider: "instant", model: "m", source: "en", target: "fi" },
      ...[seen[0], expect.objectContaining({ text: "⟪fi⟫A" }), seen[1], expect.objectContaining({ text: "⟪fi⟫B" })],
    ]);
    expect(seen).toEqual([{ sent: expect.any(String) }, { sent: expect.any(String) }]);
  });

  it("does not write a language of which a segment failed, lists it, makes the others, and asks again under another key next time", async () => {
    const data = await dataOf([alpaca("Fine", "Bad thing", { id: "one" }), alpaca("Fine", "Good")]);
    let isMended = false;
    const answer = (request: SegmentRequest, target: string): string | RequestFailure =>
      request.text === "Bad thing" && target === "fi" && !isMended ? new RequestFailure("refused") : marked(request, target);
    const provider = instant(answer);
    mkdirSync(out);
    writeFileSync(join(out, "alpaca.fi.json"), "of an earlier run");
    await expect(translate(settings(data, { targets: ["fi", "de"] }), provider, environment())).rejects.toMatchObject({
      code: "INCOMPLETE",
      message: expect.stringMatching(/fi: 1 segments failed, listed in .*failed\.fi\.json.*--drop/),
    });
    expect(existsSync(join(out, "alpaca.fi.json"))).toBe(false);
    expect(output("de")).toHaveLength(2);
    expect(JSON.parse(readFileSync(join(out, "failed.fi.json"), "utf8"))).toEqual([
      { text: "Bad thing", reason: "refused", records: ["one"] },
    ]);

    const dropped = await translate(settings(data, { drop: true }), provider, environment());
    expect(dropped.languages.fi).toMatchObject({ records: 1, dropped: 1, failed: 1 });
    expect(output()).toEqual([{ id: 1, instruction: "⟪fi⟫Fine", input: "", output: "⟪fi⟫Good" }]);

    isMended = true;
    const mended = await translate(settings(data), provider, environment());
    expect(mended.languages.fi).toMatchObject({ records: 2, translated: 1, reused: 2, failed: 0 });
    expect(existsSync(join(out, "failed.fi.json"))).toBe(false);
    const keys = provider.asked.filter(({ text }) => text === "Bad thing").map(({ idempotencyKey }) => idempotencyKey);
    expect(keys).toHaveLength(4);
    expect(new Set(keys).size).toBe(4);
  });

  it("ends a run in which every segment fails, instead of trying all", async () => {
    const records = Array.from({ length: 100 }, (_, i) => alpaca(`Question ${i}`, `Answer ${i}`));
    const provider = instant(() => new RequestFailure("no answer within 60 s"), { concurrency: 2 });
    await expect(translate(settings(await dataOf(records)), provider, environment())).rejects.toMatchObject({
      code: "INCOMPLETE",
      message: expect.stringMatching(/the last 10 segments all failed.*no answer within 60 s/),
    });
    expect(provider.asked.length).toBeLessThanOrEqual(12);
  });

  it("keeps what was answered when stopped, takes what still comes, and goes on", async () => {
    const records = Array.from({ length: 30 }, (_, i) => alpaca(`Question number ${i}`, ""));
    const data = await dataOf(records);
    const controller = new AbortController();
    const provider = instant(marked);
    const stopping: LiveProvider = {
      ...provider,
      open: async (pair, context) => {
        const session = await provider.open(pair, context);
        return {
          ...session,
          translate: async (request) => {
            const answer = await session.translate(request);
            if (provider.asked.length === 10) controller.abort();
            await new Promise((resolve) => setTimeout(resolve, 1));
            return answer;
          },
        };
      },
    };
    await expect(translate(settings(data), stopping, environment(controller.signal))).rejects.toMatchObject({
      code: "CANCELLED",
      message: expect.stringMatching(/kept in .*journal\.fi\.jsonl.*Run the same command again/),
    });
    const asked = provider.asked.length;
    expect(asked).toBeLessThan(30);
    expect(journalLines().filter(({ text }) => text !== undefined)).toHaveLength(asked);
    expect(readdirSync(out)).toEqual(["journal.fi.jsonl"]);
    const summary = await translate(settings(data), provider, environment());
    expect(summary.languages.fi).toMatchObject({ reused: asked, translated: 30 - asked });
    expect(notes.join()).not.toContain("under way");
  });

  it("lists the requests that were under way when a run was killed, and repeats them under the same key", async () => {
    const data = await dataOf([alpaca("A question", "An answer")]);
    const provider = instant(marked);
    await translate(settings(data), provider, environment());
    const path = join(out, "journal.fi.jsonl");
    const lines = readFileSync(path, "utf8").split("\n");
    writeFileSync(path, `${lines.filter((line) => !line.includes("⟪fi⟫An answer")).join("\n")}`);
    await translate(settings(data), provider, environment());
    expect(notes).toContainEqual(expect.stringMatching(/^fi: 1 request was under way .* same Idempotency-Key: "An answer"$/));
    expect(provider.asked).toHaveLength(3);
    expect(provider.asked[2]).toEqual(provider.asked[1]);
  });

  it("throws away the answers of a run whose provider turns out to have mixed them up", async () => {
    const data = await dataOf([alpaca("A", "B")]);
    const mixing = instant(marked);
    const provider: LiveProvider = {
      ...mixing,
      open: async (pair, context) => ({
        ...(await mixing.open(pair, context)),
        end: async () => {
          throw new MisalignedAnswers("one line too many.");
        },
      }),
    };
    await expect(translate(settings(data), provider, environment())).rejects.toThrow(
      /one line too many\. What this run had from it is discarded/,
    );
    const summary = await translate(settings(data), mixing, environment());
    expect(summary.languages.fi).toMatchObject({ reused: 0, translated: 2 });
  });
});

describe("flagged records", () => {
  const sentence = "Tell me why the number 42 matters so much to so many people.";
  const good = "Kerro minulle, miksi luku 42 on niin tärkeä niin monille ihmisille.";

  it("are reported, with the text, and written all the same", async () => {
    const data = await dataOf([alpaca(sentence, "", { id: "a" }), alpaca("Why?", "", { id: "b" })]);
    const summary = await translate(
      settings(data),
      instant(({ text }) => text),
      environment(),
    );
    expect(summary.languages.fi).toMatchObject({ flagged: 1, dropped: 0, records: 2, quality: { flags: { "source-copy": 1 } } });
    expect(JSON.parse(readFileSync(join(out, "quality.fi.json"), "utf8"))).toMatchObject({
      ...{ source: "en", target: "fi", provider: "instant", model: "m", records: 2, flagged: 1 },
      flaggedRecords: [{ id: "a", flags: ["source-copy"], dropped: false, source: { instruction: sentence } }],
    });
  });

  it("are left out with --drop, the others keeping their places as ids", async () => {
    const data = await dataOf([alpaca(sentence, ""), alpaca("Why?", "")]);
    const summary = await translate(
      settings(data, { drop: true }),
      instant(({ text }) => text),
      environment(),
    );
    expect(summary.languages.fi).toMatchObject({ flagged: 1, dropped: 1, records: 1 });
    expect(output()).toEqual([{ id: 1, instruction: "Why?", input: "", output: "" }]);
  });

  it("are asked for again with --retry, under another key, no more often than that over all runs", async () => {
    const data = await dataOf([alpaca(sentence, ""), alpaca("Why?", "")]);
    let times = 0;
    const provider = instant(({ text }) => (text === sentence && ++times === 3 ? good : text));
    const first = await translate(settings(data, { retry: 1 }), provider, environment());
    expect(first.languages.fi).toMatchObject({ flagged: 1, segments: 2, translated: 3 });
    expect((await translate(settings(data, { retry: 1 }), provider, environment())).languages.fi).toMatchObject({
      translated: 0,
      flagged: 1,
    });
    const third = await translate(settings(data, { retry: 5 }), provider, environment());
    expect(third.languages.fi).toMatchObject({ flagged: 0, translated: 1, reused: 2 });
    expect(output()[0]).toMatchObject({ instruction: good });
    expect(new Set(provider.asked.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(4);
  });
});

describe("translate refuses, before it asks for anything,", () => {
  it.each<[string, Partial<TranslateSettings>, RegExp]>([
    ["an unknown language code", { targets: ["fi", "xx"] }, /--langs: "xx" is no language code/],
    ["a language given twice", { targets: ["fi", "de", "fi"] }, /"fi" is given twice/],
    ["the source's own language", { targets: ["en"] }, /"en" is the language of/],
    ["no language", { targets: [] }, /no language is given/],
    ["records of another language", { source: "de" }, /line 1: the record says its language is "en", the file's is "de"/],
  ])("%s", async (_, more, message) => {
    const provider = instant(marked);
    const data = await dataOf([alpaca("A", "B", { language: "en" })]);
    await expect(translate(settings(data, more), provider, environment())).rejects.toThrow(message);
    expect(provider.asked).toEqual([]);
    expect(existsSync(out)).toBe(false);
  });

  it("a data file that it would overwrite", async () => {
    out = await temporaryFolder();
    const data = join(out, "alpaca.fi.json");
    writeFileSync(data, JSON.stringify([alpaca("A", "B")]));
    await expect(translate(settings(data), instant(marked), environment())).rejects.toThrow(/would be overwritten/);
  });

  it("a broken line in the middle of a journal, by file and line", async () => {
    const data = await dataOf([alpaca("A", "B")]);
    await translate(settings(data), instant(marked), environment());
    const path = join(out, "journal.fi.jsonl");
    const lines = readFileSync(path, "utf8").split("\n");
    lines[2] = lines[2]!.slice(0, 9);
    writeFileSync(path, lines.join("\n"));
    const provider = instant(marked);
    await expect(translate(settings(data), provider, environment())).rejects.toThrow(
      /journal\.fi\.jsonl line 3: not a line of a translation/,
    );
    expect(provider.asked).toEqual([]);
    expect(existsSync(join(out, translateLockName))).toBe(false);
  });

  it.skipIf(!existsSync("/dev/full"))("to go on when the disk under the journal is full", async () => {
    mkdirSync(out);
    symlinkSync("/dev/full", join(out, "journal.fi.jsonl"));
    const provider = instant(marked);
    await expect(translate(settings(await dataOf([alpaca("A", "B")])), provider, environment())).rejects.toMatchObject({
      code: "DISK_FULL",
    });
    expect(provider.asked).toEqual([]);
  });

  it("an out folder that cannot be made", async () => {
    const file = join(await temporaryFolder(), "file");
    writeFileSync(file, "");
    const data = await dataOf([alpaca("A", "B")]);
    await expect(translate(settings(data, { out: join(file, "out") }), instant(marked), environment())).rejects.toThrow(
      /cannot be written: ENOTDIR/,
    );
  });
});

describe("exported segments", () => {
  it("are the ones that are asked for, as lines or with ids", async () => {
    const folder = await temporaryFolder();
    const data = await dataOf([alpaca("First. Second.", "- point"), alpaca("Second.", "12")]);
    const base = { data, source: "en", skipBadRecords: false, maxCharacters: 500, joinSentences: false };
    expect(await exportSegments({ ...base, file: join(folder, "s.txt") }, environment())).toMatchObject({ segments: 3 });
    expect(readFileSync(join(folder, "s.txt"), "utf8")).toBe("First.\nSecond.\npoint\n");
    await exportSegments({ ...base, file: join(folder, "s.jsonl") }, environment());
    const rows = readFileSync(join(folder, "s.jsonl"), "utf8").trimEnd().split("\n");
    expect(rows.map((row) => (JSON.parse(row) as { text: string }).text)).toEqual(["First.", "Second.", "point"]);
  });
});
