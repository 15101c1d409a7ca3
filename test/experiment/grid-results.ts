/** What an experiment's folder holds, in a form that can be compared. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkpointHashes, loggedLines } from "../train/tiny-run.js";

/** SHA-256 of all results, by file. */
export function gridResults(out: string): Record<string, string> {
  const folders = ["responses", "judgements", "scores", "figures"];
  const names = folders.flatMap((part) => readdirSync(join(out, part)).map((name) => join(part, name)));
  const hash = (name: string): string =>
    createHash("sha256")
      .update(readFileSync(join(out, name)))
      .digest("hex");
  return Object.fromEntries(names.sort().map((name) => [name, hash(name)]));
}

function runsOf(out: string): string[] {
  return readdirSync(join(out, "jobs"))
    .filter((name) => name.startsWith("train-"))
    .sort();
}

/** Of every run's last and best checkpoints, optimiser state included. */
export function weightHashes(out: string): Record<string, object> {
  const of = (name: string): object =>
    Object.fromEntries(["last", "best"].map((which) => [which, checkpointHashes(join(out, "jobs", name, "output/run", which))]));
  return Object.fromEntries(runsOf(out).map((name) => [name, of(name)]));
}

/** Every run's log: steps, losses, validation. */
export function stepsByRun(out: string): Record<string, object> {
  return Object.fromEntries(runsOf(out).map((name) => [name, loggedLines(join(out, "jobs", name, "output/run"))]));
}
