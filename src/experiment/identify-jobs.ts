/** What jobs are called: a hash over their settings, the content of what they read, and the hashes of the jobs they depend on. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import { fingerprintModel, fingerprintTokenizer, hashFile } from "../train/run-folder.js";
import { contentHash, decidingSettings, dependenciesOf, type Input, type Job } from "./job.js";

/** A job with its place. */
export interface IdentifiedJob {
  readonly job: Job;
  /** Changes with anything that its result depends on. */
  readonly hash: string;
  /** Name of its folder among the jobs' folders. */
  readonly folder: string;
  /** Folders of the jobs whose output it reads. */
  readonly dependsOn: readonly string[];
  /** Of its inputs from outside, by path. */
  readonly identities: Readonly<Record<string, string>>;
}

export interface IdentifiedGrid {
  /** In the order of the grid: a job comes after those it depends on. */
  readonly jobs: readonly IdentifiedJob[];
  /** Paths that are not there; with any, hashes are provisional. */
  readonly missing: readonly string[];
}

/** Change a kind's number with anything that makes other results of the same settings. */
const resultVersions: Readonly<Record<Job["kind"], number>> = {
  split: 1,
  mix: 1,
  train: 1,
  generate: 1,
  likelihood: 1,
  judge: 1,
  score: 1,
  figures: 1,
};

/** @param identify says what a path's content is; null: there is nothing */
export async function identifyJobs(jobs: readonly Job[], identify: IdentifyInput = contentIdentities()): Promise<IdentifiedGrid> {
  const missing = new Set<string>();
  const byKey = new Map<string, IdentifiedJob>();
  for (const job of jobs) {
    const identities: Record<string, string> = {};
    const read: [string, unknown][] = [];
    for (const [name, list] of Object.entries(job.inputs)) {
      const parts: unknown[] = [];
      for (const input of list) {
        if (input.kind === "output") {
          parts.push([byKey.get(input.job)!.hash, input.path]);
          continue;
        }
        const identity = await identify(input);
        if (identity === null) missing.add(input.path);
        identities[input.path] = identity ?? "missing";
        parts.push(identity ?? `missing ${input.path}`);
      }
      read.push([name, parts]);
    }
    const content = {
      version: resultVersions[job.kind],
      kind: job.kind,
      settings: decidingSettings(job),
      inputs: Object.fromEntries(read),
    };
    const hash = contentHash(content);
    const dependsOn = dependenciesOf(job).map((key) => byKey.get(key)!.folder);
    byKey.set(job.key, { job, hash, folder: `${job.kind}-${job.name}-${hash.slice(0, 8)}`, dependsOn, identities });
  }
  const identified = [...byKey.values()];
  refuseSharedFolders(identified);
  return { jobs: identified, missing: [...missing].sort() };
}

/** Two jobs whose inputs lie in different places and are the same: one of them would find the other's work done. */
function refuseSharedFolders(jobs: readonly IdentifiedJob[]): void {
  const first = new Map<string, IdentifiedJob>();
  for (const job of jobs) {
    const other = first.get(job.folder);
    if (other !== undefined)
      throw new PolypacaError("BAD_CONFIG", `two jobs of the grid would be one: ${job.folder}. Leave one of them out.`);
    first.set(job.folder, job);
  }
}

export type IdentifyInput = (input: Exclude<Input, { readonly kind: "output" }>) => Promise<string | null>;

/** Reads every path once. Of weights, which may be large, only their size and both ends of each file are read. */
export function contentIdentities(): IdentifyInput {
  const known = new Map<string, Promise<string | null>>();
  return (input) => {
    const key = `${input.kind} ${input.path}`;
    const identity = known.get(key) ?? identityOf(input);
    known.set(key, identity);
    return identity;
  };
}

async function identityOf({ kind, path }: Parameters<IdentifyInput>[0]): Promise<string | null> {
  if (kind === "file") return existsSync(path) ? (await hashFile(path)).sha256 : null;
  const config = join(path, "config.json");
  if (!existsSync(config)) return null;
  const tokenizer = await fingerprintTokenizer(path);
  if (kind === "shape") return contentHash([(await hashFile(config)).sha256, tokenizer]);
  return contentHash([await fingerprintModel(path), tokenizer]);
}
