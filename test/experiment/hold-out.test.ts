import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { holdOut } from "../../src/experiment/hold-out.js";
import { alpaca, temporaryFolder } from "../data/data-folder.js";

const languages = ["de", "en"];

async function files(folder: string, ids: Readonly<Record<string, readonly string[]>>): Promise<string[]> {
  mkdirSync(join(folder, "data"), { recursive: true });
  return languages.map((language) => {
    const file = join(folder, `data/alpaca.${language}.json`);
    writeFileSync(file, JSON.stringify(ids[language]!.map((id) => alpaca(`${language} ${id}`, "answer", { id }))));
    return file;
  });
}

function idsIn(file: string): string[] {
  const text = readFileSync(file, "utf8");
  const rows = file.endsWith("l")
    ? text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown)
    : (JSON.parse(text) as unknown[]);
  return rows.map((row) => (row as { id: string }).id);
}

const ten = Array.from({ length: 10 }, (_, i) => String(i));

describe("records held out", () => {
  it("are the same seed records in every language, and in no training data", async () => {
    const folder = await temporaryFolder();
    const out = join(folder, "out");
    const shuffled = { en: ten, de: [...ten].reverse() };
    expect(await holdOut(await files(folder, shuffled), { languages, validationSize: 3, seed: 1 }, out)).toEqual({
      de: { training: 7, validation: 3 },
      en: { training: 7, validation: 3 },
    });
    const held = idsIn(join(out, "validation/en.jsonl"));
    expect([...idsIn(join(out, "validation/de.jsonl"))].sort()).toEqual([...held].sort());
    expect(idsIn(join(out, "validation/all.jsonl"))).toHaveLength(6);
    for (const language of languages) {
      const training = idsIn(join(out, `data/alpaca.${language}.json`));
      expect([...training, ...held].sort()).toEqual(ten);
    }
  });

  it("do not depend on the order of records, and differ by seed", async () => {
    const chosen = async (seed: number, en: readonly string[]): Promise<string[]> => {
      const folder = await temporaryFolder();
      await holdOut(await files(folder, { en, de: ten }), { languages, validationSize: 4, seed }, join(folder, "out"));
      return idsIn(join(folder, "out/validation/en.jsonl")).sort();
    };
    expect(await chosen(1, [...ten].reverse())).toEqual(await chosen(1, ten));
    expect(await chosen(2, ten)).not.toEqual(await chosen(1, ten));
  });

  it("are of those that all languages have", async () => {
    const folder = await temporaryFolder();
    const out = join(folder, "out");
    await holdOut(await files(folder, { en: ten, de: ten.slice(6) }), { languages, validationSize: 2, seed: 1 }, out);
    for (const id of idsIn(join(out, "validation/en.jsonl"))) expect(Number(id)).toBeGreaterThanOrEqual(6);
    await expect(
      holdOut(await files(folder, { en: ten, de: ten.slice(6) }), { languages, validationSize: 3, seed: 1 }, join(folder, "more")),
    ).rejects.toThrow(/more than half of what can be held out \(4 seed records/);
  });
});
