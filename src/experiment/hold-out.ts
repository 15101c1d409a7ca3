/**
 * `validation: shared`: seed records are held out of every language's data before it is mixed, so that no run is validated on what
 * another language's data has taught it.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileSynced, writeFolderAtomic } from "../checkpoint/atomic.js";
import { type AlpacaRecord, parseAlpaca } from "../data/alpaca.js";
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
  const data: (readonly AlpacaRecord[])[] = [];
  for (const [i, file] of files.entries()) {
    const bytes = await readFile(file).catch((cause: unknown) => {
      throw PolypacaError.from(cause);
    });
    data.push(parseAlpaca(bytes, file, { language: languages[i]! }).records);
  }
  const held = chooseSeeds(
    data.map((records) => records.map(seedOf)),
    validationSize,
    seed,
  );
  const counts: Record<string, HeldOut> = {};
  await writeFolderAtomic(out, async (folder) => {
    await mkdir(join(folder, "data"));
    await mkdir(join(folder, "validation"));
    const all: string[] = [];
    for (const [i, language] of languages.entries()) {
      const rows = data[i]!.map((record, index) => ({ id: seedOf(record, index), record }));
      const training = rows.filter(({ id }) => !held.has(id)).map(({ id, record }) => toJson(id, record, language));
      const validation = rows.filter(({ id }) => held.has(id)).map(({ id, record }) => toJson(id, record, language));
      await writeFileSynced(join(folder, heldOutFiles.data(language)), `[\n${training.join(",\n")}\n]\n`);
      await writeFileSynced(join(folder, heldOutFiles.validation(language)), linesOf(validation));
      all.push(...validation);
      counts[language] = { training: training.length, validation: validation.length };
    }
    await writeFileSynced(join(folder, heldOutFiles.validation("all")), linesOf(all));
  });
  return counts;
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
