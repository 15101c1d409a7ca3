import { appendFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openTranslationJournal, type TranslationJournal } from "../../src/translate/journal.js";
import { temporaryFolder } from "../data/data-folder.js";

const scope = { provider: "openai", model: "m", source: "en", target: "fi" };

function open(path: string, more: Partial<typeof scope> = {}): TranslationJournal {
  return openTranslationJournal(path, { ...scope, ...more }, Date.now);
}

/** A journal of two translations, one failure and one request under way. */
async function written(): Promise<string> {
  const path = join(await temporaryFolder(), "journal.fi.jsonl");
  const journal = open(path);
  for (const hash of ["a", "b", "c", "d"]) journal.sent(hash);
  journal.answered("b", { text: "kaksi\n" }, { inputTokens: 41, outputTokens: 9 });
  journal.answered("a", { text: "yksi" }, null);
  journal.failed("c", "refused");
  journal.close();
  return path;
}

describe("a journal", () => {
  it("has everything again after it was closed, or not closed", async () => {
    const path = await written();
    const journal = open(path);
    expect([..."abcd"].map((hash) => journal.answer(hash)?.text)).toEqual(["yksi", "kaksi\n", undefined, undefined]);
    expect(journal.inFlight()).toEqual(["d"]);
    journal.answered("d", { text: "neljä" }, null);
    expect(open(path).answer("d")?.text).toBe("neljä"); // the first is still open, as after a kill
    expect(open(path).inFlight()).toEqual([]);
    journal.close();
  });

  it("keeps providers, models and languages apart, also in one file, in any order", async () => {
    const path = await written();
    for (const more of [{ model: "n" }, { provider: "command" }, { source: "de" }, { target: "sv" }]) {
      const other = open(path, more);
      expect(other.answer("a")?.text).toBeUndefined();
      other.answered("a", { text: JSON.stringify(more) }, null);
      other.close();
    }
    const again = open(path);
    again.answered("e", { text: "viisi" }, null);
    again.close();
    expect(open(path).answer("a")?.text).toBe("yksi");
    expect(open(path).answer("e")?.text).toBe("viisi");
    expect(open(path, { model: "n" }).answer("a")?.text).toBe('{"model":"n"}');
    expect(open(path, { model: "n" }).answer("e")?.text).toBeUndefined();
  });

  it("gives a request the same key before and after it was sent and after a kill, and another one after a failure or an answer", async () => {
    const path = join(await temporaryFolder(), "journal.jsonl");
    const journal = open(path);
    const first = journal.idempotencyKey("a");
    expect(first).toMatch(/^polypaca-[0-9a-f]{40}$/);
    journal.sent("a");
    expect([journal.idempotencyKey("a"), open(path).idempotencyKey("a")]).toEqual([first, first]);
    journal.failed("a", "refused");
    const second = journal.idempotencyKey("a");
    expect(open(path).idempotencyKey("a")).toBe(second);
    journal.sent("a");
    journal.answered("a", { text: "yksi" }, null);
    expect(journal.answers("a")).toBe(1);
    const third = journal.idempotencyKey("a");
    expect(open(path).idempotencyKey("a")).toBe(third);
    journal.sent("a");
    expect(open(path).inFlight()).toEqual(["a"]);
    expect(open(path).answer("a")?.text).toBe("yksi");
    journal.answered("a", { text: "ensimmäinen" }, null);
    expect(open(path).answer("a")?.text).toBe("ensimmäinen");
    expect(open(path).answers("a")).toBe(2);
    expect(new Set([first, second, third, journal.idempotencyKey("a"), journal.idempotencyKey("b")]).size).toBe(5);
    expect(open(path, { target: "sv" }).idempotencyKey("a")).not.toBe(first);
    journal.close();
  });

  it.each([1, 5, 20])("loses only a last line that was cut %i bytes before its end, and goes on", async (bytes) => {
    const path = await written();
    const journal = open(path);
    journal.answered("d", { text: "汉字" }, null);
    journal.close();
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, whole.length - bytes));
    const again = open(path);
    expect(again.answer("d")?.text).toBeUndefined();
    expect(again.answer("b")?.text).toBe("kaksi\n");
    expect(again.inFlight()).toEqual(["d"]);
    again.answered("d", { text: "汉字" }, null);
    again.close();
    expect(readFileSync(path).equals(whole)).toBe(true);
  });

  it.each([
    ["cut in the middle", '{"hash":"x","te'],
    ["zeros of a power cut", "\0\0\0\0"],
    ["JSON of something else", '{"id":1}'],
    ["a negative attempt", '{"sent":"x","attempt":-1}'],
  ])("refuses a line that is %s and not the last, by file and number, and changes nothing", async (_, line) => {
    const path = await written();
    appendFileSync(path, `${line}\n{"sent":"e"}\n`);
    const before = readFileSync(path);
    expect(() => open(path)).toThrow(
      expect.objectContaining({ code: "BAD_RECORD", message: expect.stringMatching(/journal\.fi\.jsonl line 9: .*delete it/) }),
    );
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it("is not made of a file that is something else, which stays as it is", async () => {
    const path = join(await temporaryFolder(), "data.jsonl");
    writeFileSync(path, '{"instruction":"Say hi."}');
    expect(() => open(path)).toThrow(expect.objectContaining({ code: "BAD_RECORD", message: expect.stringMatching(/line 1: not a line/) }));
    expect(readFileSync(path, "utf8")).toBe('{"instruction":"Say hi."}');
    for (const cut of ["", "{", '{"provider":"op', "\0\0\0"]) {
      writeFileSync(path, cut);
      open(path).close();
      expect(readFileSync(path, "utf8")).toBe("");
    }
  });

  it("forgets what came after a mark", async () => {
    const path = await written();
    const journal = open(path);
    const mark = journal.mark();
    journal.sent("d");
    journal.answered("d", { text: "wrong" }, null);
    journal.discardSince(mark);
    journal.close();
    expect(open(path).answer("d")?.text).toBeUndefined();
    expect(open(path).answer("a")?.text).toBe("yksi");
  });

  it("reads lines that are longer than what it reads at a time", async () => {
    const path = await written();
    const long = "ä".repeat(1_500_000);
    const journal = open(path);
    journal.answered("d", { text: long }, null);
    journal.answered("e", { text: "viisi" }, null);
    journal.close();
    expect(open(path).answer("d")?.text).toBe(long);
    expect(open(path).answer("e")?.text).toBe("viisi");
  });

  it("says which file cannot be made", async () => {
    const folder = await temporaryFolder();
    mkdirSync(join(folder, "journal"));
    expect(() => open(join(folder, "journal"))).toThrow(/journal cannot be written: EISDIR/);
  });

  it.skipIf(!existsSync("/dev/full"))("says that the disk is full before a request is made", async () => {
    const path = join(await temporaryFolder(), "journal.fi.jsonl");
    symlinkSync("/dev/full", path);
    const journal = open(path);
    expect(() => journal.sent("a")).toThrow(
      expect.objectContaining({ code: "DISK_FULL", message: expect.stringMatching(/journal\.fi\.jsonl cannot be written: ENOSPC/) }),
    );
  });
});
