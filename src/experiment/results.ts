/** Where an experiment's results are found: links in its folder into the folders of the jobs that made them. */
import { readlink, rename, rm, symlink } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { temporaryPrefix, writingError } from "../checkpoint/atomic.js";
import { outputs } from "./outputs.js";
import { type ExperimentRecord, jobsFolderOf } from "./plan-experiment.js";

/** Paths in the experiment's folder. */
export interface Results {
  readonly responses: string;
  readonly judgements: string;
  readonly scores: string;
  readonly figures: string;
}

/**
 * Points the links to the jobs of this plan; relative, so that the folder can be moved.
 *
 * @throws PolypacaError `IO`, also where something else has a link's name
 */
export async function linkResults(out: string, record: ExperimentRecord): Promise<Results> {
  const jobsFolder = relative(out, jobsFolderOf(out, record));
  const folderOf = (kind: "score" | "figures"): string => record.jobs.find((job) => job.kind === kind)!.folder;
  const targets = {
    responses: join(folderOf("score"), "output", outputs.score.responses),
    judgements: join(folderOf("score"), "output", outputs.score.judgements),
    scores: join(folderOf("score"), "output", outputs.score.scores),
    figures: join(folderOf("figures"), "output", outputs.figures.figures),
  };
  const entries = Object.entries(targets).map(([name, target]) => [name, join(out, name), join(jobsFolder, target)] as const);
  for (const [, path, target] of entries) await pointLink(path, target);
  return Object.fromEntries(entries.map(([name, path]) => [name, path])) as unknown as Results;
}

async function pointLink(path: string, target: string): Promise<void> {
  if ((await readlink(path).catch(() => null)) === target) return;
  const temporary = join(dirname(path), `${temporaryPrefix}${basename(path)}-${process.pid}`);
  try {
    await rm(temporary, { force: true });
    await symlink(target, temporary);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw writingError(path, cause);
  }
}
