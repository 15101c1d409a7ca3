/**
 * `validation: shared`: seed records are held out of every language's data before it is mixed, so that no run is validated on what
 * another language's data has taught it.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileSynced, writeFolderAtomic } from "../checkpoint/atomic.js";
import { type AlpacaRecord, readAlpaca } from "../data/alpaca.js";
import { CounterRandom, permutation, randomPurpose } from "../data/philox.js";
import { PolypacaError } from "../errors.js";
import type { SplitSettings } from "./job.js";
import { heldOutFiles } from "./outputs.js";

/** Of a language. */
export interface HeldOut {
  readonly training: number;
  readonly validation: number;
}

/**
 * Writes `data/alpaca.<lang>.json` without the seed records held out, `validation/<lang>.jsonl` with them, and `validation/all.jsonl`,
 * into a new folder. A record is identified by its `id`, where it has none by its place in its file. Held out are records that all
 * languages have, chosen by the seed.
 *
 * @param files of `settings.languages`, in their order
 * @throws PolypacaError `BAD_RECORD`, `BAD_DATA` for the data, and where less than twice as many seed records are in all languages as are
 *   to be held out; `NOT_FOUND`, `IO`, `DISK_FULL`
 */
export async function holdOut(files: readonly string[], settings: SplitSettings, out: string): Promise<Record<string, HeldOut>> {
  const { languages, validationSize, seed } = settings;
  const sources = files.map((file, i) => ({ file, language: languages[i]! }));
  // Each file is read twice, so that one language's texts are in memory at a time.
  const ids: string[][] = [];
  for (const source of sources) ids.push((await readSource(source)).map(seedOf));
  const held = chooseSeeds(ids, validationSize, seed);
  const counts: Record<string, HeldOut> = {};
  await writeFolderAtomic(out, async (folder) => {
    await mkdir(join(folder, "data"));
    await mkdir(join(folder, "validation"));
    const all: string[] = [];
    for (const source of sources) {
      const { language } = source;
      const parts: { readonly training: string[]; readonly validation: string[] } = { training: [], validation: [] };
      for (const [index, record] of (await readSource(source)).entries()) {
        const id = seedOf(record, index);
        parts[held.has(id) ? "validation" : "training"].push(toJson(id, record, language));
      }
      await writeFileSynced(join(folder, heldOutFiles.data(language)), `[\n${parts.training.join(",\n")}\n]\n`);
      await writeFileSynced(join(folder, heldOutFiles.validation(language)), linesOf(parts.validation));
      all.push(...parts.validation);
      counts[language] = { training: parts.training.length, validation: parts.validation.length };
    }
    await writeFileSynced(join(folder, heldOutFiles.validation("all")), linesOf(all));
  });
  return counts;
}

async function readSource({ file, language }: { readonly file: string; readonly language: string }): Promise<readonly AlpacaRecord[]> {
  return (await readAlpaca(file, { language })).records;
}

/** Of the seed records that every language has, so many as the seed chooses, whatever the files' order. */
function chooseSeeds(ids: readonly (readonly string[])[], validationSize: number, seed: number): ReadonlySet<string> {
  const [first = [], ...others] = ids;
  const sets = others.map((list) => new Set(list));
  const common = [...new Set(first)].filter((id) => sets.every((set) => set.has(id))).sort();
  if (validationSize > common.length / 2) {
    const found = `${common.length} seed records are in all languages`;
    throw new PolypacaError(
      "BAD_DATA",
      `validation: shared, validationSize ${validationSize}: more than half of what can be held out (${found}). Lower it.`,
    );
  }
  const order = permutation(common.length, new CounterRandom(seed, randomPurpose.validationSplit));
  return new Set(Array.from(order.subarray(0, validationSize), (index) => common[index]!));
}

function seedOf({ id }: AlpacaRecord, index: number): string {
  return id ?? String(index);
}

function toJson(id: string, { instruction, input, output }: AlpacaRecord, language: string): string {
  return JSON.stringify({ id, lang: language, instruction, input, output });
}

function linesOf(rows: readonly string[]): string {
  return rows.map((row) => `${row}\n`).join("");
}
