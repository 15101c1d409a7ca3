import { constants, existsSync, readFileSync } from "node:fs";
import { access, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { writeFileSynced, writeFolderAtomic, writingError } from "../checkpoint/atomic.js";
import { describeBadRecord } from "../data/json-records.js";
import { PolypacaError } from "../errors.js";
import { assertFreeFolder } from "../models/assert-free-folder.js";
import { packageRoot } from "../native/load.js";
import { type Alignment, alignLanguages, counted, has, refuseForDisjoint } from "./alignment.js";
import { planMix } from "./conditions.js";
import { type CostBasis, openCostBasis } from "./cost-basis.js";
import { recordCosts } from "./costs.js";
import { type CountingEnvironment, findLanguageFiles, readLanguageFiles } from "./data-folder.js";
import type { LanguageData, ReadJob } from "./language-data.js";
import { type FileReport, type MixResult, reportBudget, reportFile, reportLanguages } from "./mix-report.js";
import { checkMixSettings, type MixSettings } from "./mix-settings.js";
import { lineOrder, writeTrainingFile } from "./training-file.js";

export const manifestFileName = "manifest.json";

export type MixEnvironment = CountingEnvironment & {
  /** Told what the user should know: findings between languages, records left out, oddities of the tokenizer. */
  readonly note?: ((line: string) => void) | undefined;
};

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
  const languages = await readLanguageFiles(jobs, environment);
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

function notesOn(languages: readonly LanguageData[], { findings }: Alignment): string[] {
  return [
    ...languages.flatMap(({ notes }) => notes),
    ...languages.flatMap(({ bad }) => bad.map((record) => `left out: ${describeBadRecord(record)}`)),
    ...findings.map(({ message }) => message),
    ...languages.flatMap(({ language, counts }) => {
      const empty = counts?.targetTokens.filter((targets) => targets === 0).length ?? 0;
      return empty === 0
        ? []
        : [`${language}: ${counted(empty)} ${has(empty)} no target left under the cutoff: counted here, left out by train.`];
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
