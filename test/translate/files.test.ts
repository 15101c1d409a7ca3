import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RequestFailure } from "../../src/endpoint/request.js";
import { textHash } from "../../src/endpoint/text-hash.js";
import { filesProvider } from "../../src/translate/providers/files.js";
import type { TranslationSession } from "../../src/translate/providers/provider.js";
import { temporaryFolder } from "../data/data-folder.js";
import { ask, testContext } from "./provider-context.js";

const limits = { maxCharacters: 500, joinSentences: false };

async function open(files: string, segments: string | null): Promise<TranslationSession> {
  const provider = await filesProvider({ files, segments, ...limits }, ["fi"]);
  return await provider.open({ source: "en", target: "fi" }, testContext());
}

describe("the files provider", () => {
  it("joins plain lines with the source's lines", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "segments.txt"), "one\ntwo\u2028half\nthree\n");
    await writeFile(join(folder, "fi.txt"), "yksi\r\nkaksi\u2028puoli\nkolme");
    const session = await open(join(folder, "{target}.txt"), join(folder, "segments.txt"));
    expect((await ask(session, "three")).text).toBe("kolme");
    expect((await ask(session, "two\u2028half")).text).toBe("kaksi\u2028puoli");
    expect((await ask(session, "one")).text).toBe("yksi");
    await expect(ask(session, "four")).rejects.toBeInstanceOf(RequestFailure);
  });

  it("joins JSONL by id, in any order", async () => {
    const folder = await temporaryFolder();
    const row = (text: string, translation: string): string => JSON.stringify({ id: textHash(text), translation, by: "a person" });
    await writeFile(join(folder, "fi.jsonl"), `${row("two", "kaksi")}\n${row("one", "yksi")}\n`);
    const session = await open(join(folder, "{target}.jsonl"), null);
    expect((await ask(session, "one")).text).toBe("yksi");
    await expect(ask(session, "three")).rejects.toThrow(/fi\.jsonl has no translation of it/);
  });

  it("counts corrected files as another model, so that the journal does not hide the correction", async () => {
    const folder = await temporaryFolder();
    const files = join(folder, "{target}.jsonl");
    const models: string[] = [];
    for (const translation of ["yks", "yksi", "yks"]) {
      await writeFile(join(folder, "fi.jsonl"), JSON.stringify({ id: textHash("one"), translation }));
      models.push((await filesProvider({ files, segments: null, ...limits }, ["fi"])).model);
    }
    expect(models[0]).not.toBe(models[1]);
    expect(models[0]).toBe(models[2]);
  });

  it("refuses files that are missing, of other lengths, or of another form", async () => {
    const folder = await temporaryFolder();
    const path = (name: string): string => join(folder, name);
    await expect(open(path("{target}.txt"), null)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("--files"),
    });
    await writeFile(path("segments.txt"), "one\ntwo\n");
    await writeFile(path("fi.txt"), "yksi\n");
    await expect(open(path("{target}.txt"), null)).rejects.toThrow(/--segments FILE/);
    await expect(open(path("{target}.txt"), path("segments.txt"))).rejects.toThrow(/has 1 lines, .* has 2/);
    await writeFile(path("fi.jsonl"), '{"id":"a","translation":"b"}\n{"id":"a","text":"b"}\n');
    await expect(open(path("{target}.jsonl"), null)).rejects.toThrow(/fi\.jsonl line 2: "id" and "translation" were expected/);
  });
});
