/** A folder of `alpaca.<lang>.json`: which languages it has, and their files read. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { Progress } from "../train/progress.js";
import { counted } from "./alignment.js";
import type { LanguageData, ReadJob } from "./language-data.js";
import type { MixSettings } from "./mix-settings.js";
import { readLanguages } from "./read-languages.js";

export interface CountingEnvironment {
  readonly signal?: AbortSignal | undefined;
  /** Opened where tokens have to be counted; `total` is 100. */
  readonly openProgress?: ((task: { readonly label: string; readonly start: number; readonly total: number }) => Progress) | undefined;
  /** Folder in which indices and token counts are kept by the hash of what they were made from; default: none. */
  readonly cacheDir?: string | null | undefined;
  /** Files read at a time, each on a thread of its own; default 1: on the calling thread. */
  readonly threads?: number | undefined;
}

export interface LanguageFile {
  readonly language: string;
  readonly file: string;
}

/**
 * The files of a data folder, in the order of the codes, whatever the order in which they were asked for.
 *
 * @throws PolypacaError `NOT_FOUND`, `USAGE` naming the folder or the language
 */
export async function findLanguageFiles({ dataDir, languages }: Pick<MixSettings, "dataDir" | "languages">): Promise<LanguageFile[]> {
  const names = await readdir(dataDir).catch((cause: unknown) => {
    const { code } = PolypacaError.from(cause);
    throw new PolypacaError(code, `--data-dir ${dataDir}: ${code === "NOT_FOUND" ? "no such folder" : String(cause)}.`, { cause });
  });
  const there = names.flatMap((name) => /^alpaca\.([a-z]{2,3})\.json$/.exec(name)?.[1] ?? []).sort();
  if (there.length === 0) throw new PolypacaError("NOT_FOUND", `--data-dir ${dataDir}: holds no alpaca.<lang>.json.`);
  const wanted = languages ?? there;
  if (wanted.length === 0) throw new PolypacaError("USAGE", "--langs: no language is named.");
  for (const [i, code] of wanted.entries()) {
    if (!/^[a-z]{2,3}$/.test(code))
      throw new PolypacaError("USAGE", `--langs ${code}: a language code has two or three small letters (ISO 639), such as fi.`);
    if (wanted.indexOf(code) !== i) throw new PolypacaError("USAGE", `--langs: ${code} is named twice.`);
    if (!there.includes(code))
      throw new PolypacaError(
        "NOT_FOUND",
        `--langs ${code}: there is no ${join(dataDir, `alpaca.${code}.json`)}. Languages there: ${there.join(", ")}.`,
      );
  }
  return [...wanted].sort().map((language) => ({ language, file: join(dataDir, `alpaca.${language}.json`) }));
}

/** Reads the files, showing how far it is where tokens have to be counted. @throws PolypacaError as `readLanguages` */
export async function readLanguageFiles(
  jobs: readonly ReadJob[],
  { signal, openProgress, threads = 1 }: CountingEnvironment,
): Promise<LanguageData[]> {
  const shares = new Map<string, number>();
  let progress: Progress | null = null;
  try {
    return await readLanguages(jobs, {
      ...{ signal, threads },
      onProgress: (language, done, total) => {
        progress ??= openProgress?.({ label: "counting tokens", start: 0, total: 100 }) ?? null;
        shares.set(language, done / total);
        const sum = [...shares.values()].reduce((all, share) => all + share, 0);
        progress?.update(Math.floor((100 * sum) / jobs.length), `% of ${jobs.length} files, ${language} ${done} of ${counted(total)}`);
      },
    });
  } finally {
    (progress as Progress | null)?.stop();
  }
}
