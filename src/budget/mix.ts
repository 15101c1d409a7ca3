import { constants, existsSync, readFileSync } from "node:fs";
import { access, readdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { writeFileSynced, writeFolderAtomic, writingError } from "../checkpoint/atomic.js";
import { describeBadRecord } from "../data/json-records.js";
import { PolypacaError } from "../errors.js";
import { assertFreeFolder } from "../models/assert-free-folder.js";
import { packageRoot } from "../native/load.js";
import type { Progress } from "../train/progress.js";
import { type Alignment, alignLanguages, refuseForDisjoint } from "./alignment.js";
import { planMix } from "./conditions.js";
import { type CostBasis, openCostBasis } from "./cost-basis.js";
import { recordCosts } from "./costs.js";
import type { LanguageData, ReadJob } from "./language-data.js";
import { type FileReport, type MixResult, reportBudget, reportFile, reportLanguages } from "./mix-report.js";
import { checkMixSettings, type MixSettings } from "./mix-settings.js";
import { readLanguages } from "./read-languages.js";
import { lineOrder, writeTrainingFile } from "./training-file.js";

export const manifestFileName = "manifest.json";

export interface MixEnvironment {
  readonly signal?: AbortSignal | undefined;
  /** Told what the user should know: findings between languages, records left out, oddities of the tokenizer. */
  readonly note?: ((line: string) => void) | undefined;
  /** Opened where tokens have to be counted; `total` is 100. */
  readonly openProgress?: ((task: { readonly label: string; readonly start: number; readonly total: number }) => Progress) | undefined;
  /** Folder in which indices and token counts are kept by the hash of what they were made from; default: none. */
  readonly cacheDir?: string | null | undefined;
  /** Files read at a time, each on a thread of its own; default 1: on the calling thread. */
  readonly threads?: number | undefined;
}

/**
 * Writes the training files of a budget condition, and a manifest, into a new folder. The same settings, seed and data give the same
 * bytes on every machine.
 *
 * @throws PolypacaError `USAGE` for settings that do not go together, sizes beyond the data, `out` that holds something; `NOT_FOUND`;
 *   `BAD_RECORD` and `BAD_DATA` naming file and line; as `loadTokenizer` and `decoderSpecFromConfig` do; `IO`, `DISK_FULL`;
 *   `CANCELLED`. Whatever is thrown, `out` is as it was before
 */
export async function mix(settings: MixSettings, environment: MixEnvironment = {}): Promise<MixResult> {
  const { condition, out, budget: unit = "examples", seed = 42 } = settings;
  const { signal, note = () => {}, cacheDir = null } = environment;
  checkMixSettings(settings);
  await assertUsableOut(out);
  const files = await findLanguageFiles(settings);
  const basis = await openCostBasis(settings);
  for (const line of basis.notes) note(line);
  const jobs = files.map(({ language, file }): ReadJob => {
    return { language, file, skipBadRecords: settings.skipBadRecords === true, counting: basis.counting, cacheDir };
  });
  const languages = await readAll(jobs, environment);
  const alignment = alignLanguages(languages);
  for (const line of notesOn(languages, alignment)) note(line);
  if (settings.sampling === "disjoint") refuseForDisjoint(alignment, settings.allowMissing === true);
  const strata = languages.map(({ language, index, counts }) => {
    return { language, costs: recordCosts(unit, index.starts.length, counts, basis.work) };
  });
  const plan = planMix(settings, strata, alignment);
  const names = files.map(({ file }) => basename(file));
  const described = {
    ...{ condition, sampling: samplingOf(settings), seed },
    ...reportBudget(unit, plan, strata, languages, basis.work),
    languages: reportLanguages(languages, names, basis),
    findings: alignment.findings.map(({ message, ...finding }) => ({ ...finding, message: withoutFolder(message, settings.dataDir) })),
  };
  const reports: FileReport[] = [];
  await writeFolderAtomic(out, async (folder) => {
    for (const planned of plan.files) {
      const sha256 = await writeTrainingFile(join(folder, planned.name), lineOrder(planned, languages, seed), languages, signal);
      reports.push(reportFile(planned, sha256, languages, basis.work));
    }
    const manifest = { polypaca: version(), settings: recordedSettings(settings, basis), ...described, files: reports };
    await writeFileSynced(join(folder, manifestFileName), `${JSON.stringify(manifest, null, 2)}\n`);
  });
  const written = reports.map((report) => ({ ...report, file: join(out, report.file) }));
  return { ...described, out, manifest: join(out, manifestFileName), files: written };
}

function samplingOf({ condition, sampling, perLanguage }: MixSettings): MixResult["sampling"] {
  if (condition !== "downsampled") return null;
  return sampling ?? (perLanguage === undefined ? "random" : "stratified");
}

/** Refused before the work that would end there: writing into a folder that holds something, or into none that can be made. */
async function assertUsableOut(out: string): Promise<void> {
  await assertFreeFolder(out);
  let folder = resolve(out);
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  if (!(await stat(folder)).isDirectory())
    throw new PolypacaError("USAGE", `--out ${out}: ${folder} is a file. Choose a folder that can be made.`);
  // An empty folder is replaced, so what counts is the one that it lies in.
  const parent = folder === resolve(out) ? dirname(folder) : folder;
  await access(parent, constants.W_OK | constants.X_OK).catch((cause: unknown) => {
    throw writingError(out, cause);
  });
}

interface LanguageFile {
  readonly language: string;
  readonly file: string;
}

/** In the order of the codes, whatever the order in which they were asked for. */
async function findLanguageFiles({ dataDir, languages }: MixSettings): Promise<LanguageFile[]> {
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

async function readAll(jobs: readonly ReadJob[], { signal, openProgress, threads = 1 }: MixEnvironment): Promise<LanguageData[]> {
  const shares = new Map<string, number>();
  let progress: Progress | null = null;
  try {
    return await readLanguages(jobs, {
      ...{ signal, threads },
      onProgress: (language, done, total) => {
        progress ??= openProgress?.({ label: "counting tokens", start: 0, total: 100 }) ?? null;
        shares.set(language, done / total);
        const sum = [...shares.values()].reduce((all, share) => all + share, 0);
        progress?.update(Math.floor((100 * sum) / jobs.length), `% of ${jobs.length} files, ${language} ${done} of ${total} records`);
      },
    });
  } finally {
    (progress as Progress | null)?.stop();
  }
}

function notesOn(languages: readonly LanguageData[], { findings }: Alignment): string[] {
  return [
    ...languages.flatMap(({ notes }) => notes),
    ...languages.flatMap(({ bad }) => bad.map((record) => `left out: ${describeBadRecord(record)}`)),
    ...findings.map(({ message }) => message),
    ...languages.flatMap(({ language, counts }) => {
      const empty = counts?.targetTokens.filter((targets) => targets === 0).length ?? 0;
      return empty === 0
        ? []
        : [`${language}: ${empty} records have no target left under the cutoff; they are counted, and train leaves them out.`];
    }),
  ];
}

/** Manifests of the same data are the same wherever it lies. */
function withoutFolder(message: string, dataDir: string): string {
  return message.replace(join(dataDir, "/"), "");
}

/** Everything that decides the files' content, and no path: hashes stand for tokenizer, model and template. */
function recordedSettings(settings: MixSettings, basis: CostBasis): object {
  const { size = null, perLanguage = null, matchBudget = false, allowMissing = false, skipBadRecords = false } = settings;
  return { size, perLanguage, matchBudget, allowMissing, skipBadRecords, ...basis.recorded };
}

function version(): string {
  const { version: found } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
  return found;
}
