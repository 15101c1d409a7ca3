/** A run's folder: its record (run.json), whether it may be started or resumed, and where it stands. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { access, constants, mkdir, open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { freeDiskBytes, nearestExisting } from "../checkpoint/disk-space.js";
import { PolypacaError } from "../errors.js";
import type { ComputeDType, MachineInfo, MemoryPlan } from "../native/addon-types.js";
import { flagOf } from "../settings/check-settings.js";
import { Checkpoints, trainerStateFileName } from "./checkpoints.js";
import type { SettingName, TrainSettings } from "./settings.js";
import type { StoredTemplate } from "./template-file.js";
import { fromTrainerState, type TrainingState } from "./training-state.js";

export const runFileName = "run.json";

export interface HashedFile {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** run.json: what was run, on what, with what. */
export interface RunRecord {
  /** polypaca's version. */
  readonly version: string;
  /** ISO 8601. */
  readonly createdAt: string;
  readonly settings: TrainSettings;
  /** Settings of the preset that the study does not state. */
  readonly assumed: readonly string[];
  /** What automatic settings came to. */
  readonly resolved: {
    readonly device: string;
    readonly dtype: ComputeDType;
    readonly loraTargets: readonly string[] | null;
    readonly microBatchTokens: number;
    readonly steps: number;
    readonly stepsPerEpoch: number;
    readonly warmupSteps: number;
    readonly trainingExamples: number;
    readonly validationExamples: number;
  };
  /** AdamW's constants. */
  readonly optimizer: { readonly beta1: number; readonly beta2: number; readonly epsilon: number };
  readonly data: readonly HashedFile[];
  readonly validationData: readonly HashedFile[];
  readonly model: { readonly folder: string; readonly fingerprint: string };
  readonly tokenizer: string;
  readonly template: StoredTemplate;
  readonly machine: MachineInfo & { readonly host: string; readonly node: string };
  readonly memory: MemoryPlan;
}

/** The record of the run in `folder`; null where there is none. */
export async function readRunRecord(folder: string): Promise<RunRecord | null> {
  const path = join(folder, runFileName);
  if (!existsSync(path)) return null;
  try {
    const record = JSON.parse(await readFile(path, "utf8")) as RunRecord;
    if (typeof record.settings !== "object" || typeof record.resolved !== "object") throw new TypeError("settings are missing");
    return record;
  } catch (cause) {
    throw new PolypacaError("BAD_CONFIG", `${path}: not the record of a polypaca run (${(cause as Error).message}). Use another --out.`, {
      cause,
    });
  }
}

/**
 * The cheap part of `admitRun`, for before data is read: refuses a folder that has a run unless `resume` is true, and one that cannot
 * be written.
 *
 * @throws PolypacaError `USAGE`, `IO`
 */
export async function assertUsableFolder(folder: string, resume: boolean): Promise<void> {
  const existing = await readRunRecord(folder);
  if (existing === null && (await new Checkpoints(folder).steps()).length > 0) {
    throw new PolypacaError("USAGE", `--out ${folder}: has checkpoints but no ${runFileName}. Use another folder.`);
  }
  if (existing !== null && !resume) {
    const advice = "Pass --resume to go on with it, or use another --out.";
    throw new PolypacaError("USAGE", `--out ${folder}: there is a run already (started ${existing.createdAt}). ${advice}`);
  }
  const ancestor = nearestExisting(folder);
  try {
    if (!(await stat(ancestor)).isDirectory()) throw new Error(`${ancestor} is no folder`);
    await access(ancestor, constants.W_OK);
  } catch (cause) {
    throw new PolypacaError("IO", `--out ${folder}: cannot be written (${(cause as Error).message}).`, { cause });
  }
}

/**
 * Says whether a run as `record` describes may go on in `folder`; writes nothing.
 *
 * @returns the record of the run there, or `record` where there is none, and what should be said before going on
 * @throws PolypacaError as `assertUsableFolder`, and `USAGE` where what was asked differs from the run there in anything its result
 *   depends on, each difference named
 */
export async function admitRun(
  folder: string,
  record: RunRecord,
  resume: boolean,
): Promise<{ readonly record: RunRecord; readonly notes: readonly string[] }> {
  await assertUsableFolder(folder, resume);
  const existing = await readRunRecord(folder);
  if (existing === null) return { record, notes: [] };
  const changes = differences(existing, record);
  if (changes.length === 0) return { record: existing, notes: machineNotes(existing, record) };
  const list = changes.map((change) => `  ${change}`).join("\n");
  throw new PolypacaError(
    "USAGE",
    `--resume: the run in ${folder} was started otherwise:\n${list}\nSet these as they were, or use another --out.`,
  );
}

/**
 * Makes the folder of an admitted run ready to be written to: creates it, or cleans up after a kill.
 *
 * @returns where the run stands; null before its first checkpoint
 * @throws PolypacaError `IO`, `DISK_FULL`, … where the folder cannot be written
 */
export async function beginRun(folder: string, record: RunRecord): Promise<TrainingState | null> {
  try {
    await mkdir(join(folder, "checkpoints"), { recursive: true });
    const checkpoints = new Checkpoints(folder);
    await checkpoints.clean();
    if (!existsSync(join(folder, runFileName))) {
      await writeFileAtomic(join(folder, runFileName), `${JSON.stringify(record, null, 2)}\n`);
    }
    return await latestState(checkpoints);
  } catch (cause) {
    const error = PolypacaError.from(cause);
    if (error.code === "BAD_CHECKPOINT") throw error;
    throw new PolypacaError(error.code, `--out ${folder}: cannot be written (${error.message}).`, { cause });
  }
}

/** The state of the latest checkpoint; `last` and `best` are set right where a kill came between checkpoint and links. */
async function latestState(checkpoints: Checkpoints): Promise<TrainingState | null> {
  const step = await checkpoints.latestResumable();
  if (step === null) return null;
  const file = join(checkpoints.path(step), trainerStateFileName);
  const state = fromTrainerState(await readFile(file, "utf8"), file);
  await checkpoints.point("last", step);
  if (state.best !== null) await checkpoints.point("best", state.best.step);
  return state;
}

/** Settings that change how a run is done, not what comes out; paths count by their content's hash. */
const freeOnResume: ReadonlySet<SettingName> = new Set<SettingName>([
  "model",
  "data",
  "out",
  "template",
  "validationFile",
  "microBatchTokens",
  "device",
  "dtype",
  "loraTargets",
  "saveTotalLimit",
  "resume",
  "dryRun",
  "allowOvercommit",
]);

/** What `next` would do otherwise than `previous`, one line each; empty where it may go on. */
export function differences(previous: RunRecord, next: RunRecord): string[] {
  const lines: string[] = [];
  const compare = (name: string, before: unknown, now: unknown): void => {
    const [was, is] = [JSON.stringify(before), JSON.stringify(now)];
    if (was !== is) lines.push(`${name}: ${was} there, ${is} now`);
  };
  for (const name of Object.keys(next.settings) as SettingName[]) {
    if (!freeOnResume.has(name)) compare(flagOf(name), previous.settings[name], next.settings[name]);
  }
  for (const name of ["device", "dtype", "loraTargets", "microBatchTokens"] as const) {
    compare(flagOf(name), previous.resolved[name], next.resolved[name]);
  }
  compareFiles("--data", previous.data, next.data, lines);
  compareFiles("--validation-file", previous.validationData, next.validationData, lines);
  if (previous.model.fingerprint !== next.model.fingerprint)
    lines.push(`--model ${next.model.folder}: not the model there (${previous.model.folder})`);
  if (previous.tokenizer !== next.tokenizer) lines.push("the model's tokenizer files have changed");
  compare("--template", previous.template, next.template);
  return lines;
}

function compareFiles(flag: string, before: readonly HashedFile[], now: readonly HashedFile[], lines: string[]): void {
  if (before.length !== now.length) lines.push(`${flag}: ${before.length} files there, ${now.length} now`);
  now.forEach((file, index) => {
    const was = before[index];
    if (was && was.sha256 !== file.sha256) lines.push(`${flag} ${file.file}: its content is not that of ${was.file} then`);
  });
}

/** What may cost bit-identity without being a mistake. */
function machineNotes(previous: RunRecord, next: RunRecord): string[] {
  const parts = (["isa", "gemm", "threads"] as const).filter((name) => previous.machine[name] !== next.machine[name]);
  const changed = parts.map((name) => `${name} ${previous.machine[name]} there, ${next.machine[name]} here`);
  if (previous.version !== next.version) changed.push(`polypaca ${previous.version} there, ${next.version} here`);
  return changed.length === 0 ? [] : [`resuming on other ground (${changed.join("; ")}): results may differ in the last bits.`];
}

/**
 * @throws PolypacaError `DISK_FULL` with figures where the file system of `folder`, which need not exist yet, has less than `bytes` free
 */
export async function assertDiskSpace(folder: string, bytes: number): Promise<void> {
  const free = await freeDiskBytes(folder);
  if (free >= bytes) return;
  const advice = "Free some, use another --out, or lower --save-total-limit.";
  throw new PolypacaError(
    "DISK_FULL",
    `--out ${folder}: the checkpoints need ${mebibytes(bytes)} MiB, ${mebibytes(free)} MiB are free. ${advice}`,
  );
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

export async function hashFile(file: string): Promise<HashedFile> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of createReadStream(file)) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { file, bytes, sha256: hash.digest("hex") };
}

/** Of a weights file only this much at either end is read: a 7B model would take longer to hash than to load. */
const sampledBytes = 1 << 20;

/** A hash over config.json and, per weights file, name, size, and its first and last MiB. */
export async function fingerprintModel(folder: string): Promise<string> {
  const hash = createHash("sha256");
  const names = (await readdir(folder)).filter((name) => name === "config.json" || /\.(safetensors|bin)$/.test(name));
  for (const name of names.sort()) {
    const path = join(folder, name);
    const { size } = await stat(path);
    hash.update(`${name}\0${size}\0`);
    const handle = await open(path, "r");
    try {
      for (const position of size > 2 * sampledBytes ? [0, size - sampledBytes] : [0]) {
        const length = size > 2 * sampledBytes ? sampledBytes : size;
        const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
        hash.update(buffer.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  }
  return hash.digest("hex");
}

/** A hash over the tokenizer files of a model folder. */
export async function fingerprintTokenizer(folder: string): Promise<string> {
  const hash = createHash("sha256");
  const names = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
  for (const name of names) {
    const path = join(folder, name);
    if (existsSync(path)) hash.update(`${name}\0`).update(await readFile(path));
  }
  return hash.digest("hex");
}
