import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { configFromShape } from "../../src/families/index.js";
import { sampleDir, temporaryFolder } from "../data/data-folder.js";

export interface SampleRecord {
  readonly id?: string | number;
  readonly instruction: string;
  readonly input: string;
  readonly output: string;
  readonly lang?: string;
}

export async function sampleRecords(language: string): Promise<SampleRecord[]> {
  return JSON.parse(await readFile(join(sampleDir, `alpaca.${language}.json`), "utf8")) as SampleRecord[];
}

/** A data folder of one test: records by language. */
export async function dataFolder(languages: Readonly<Record<string, readonly SampleRecord[] | string>>): Promise<string> {
  const folder = join(await temporaryFolder(), "data");
  await mkdir(folder);
  for (const [language, content] of Object.entries(languages)) {
    const text = typeof content === "string" ? content : JSON.stringify(content, null, 1);
    await writeFile(join(folder, `alpaca.${language}.json`), text);
  }
  return folder;
}

/** A BLOOM without weights, with the sample's tokenizer. */
export async function modelWithoutWeights(): Promise<string> {
  const folder = await temporaryFolder();
  const { model } = JSON.parse(await readFile(join(sampleDir, "tokenizer.json"), "utf8")) as { model: { vocab: Record<string, number> } };
  const vocab = Math.max(...Object.values(model.vocab)) + 1;
  await writeFile(join(folder, "config.json"), JSON.stringify(configFromShape("bloom", { hidden: 64, layers: 2, heads: 4, vocab })));
  for (const name of ["tokenizer.json", "tokenizer_config.json"]) await copyFile(join(sampleDir, name), join(folder, name));
  return folder;
}

export interface Line {
  readonly id: string | number;
  readonly lang: string;
  readonly instruction: string;
  readonly input: string;
  readonly output: string;
}

export async function linesOf(file: string): Promise<Line[]> {
  const text = await readFile(file, "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}
