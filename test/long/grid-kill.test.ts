/** 2 models x 2 methods x 4 conditions x 3 languages, killed ten times at random, runner and jobs: the results are those of a run left alone. */
import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { compile, startCli } from "../cli/run-cli.js";
import { numbersFrom } from "../data/data-folder.js";
import { gridResults, stepsByRun, weightHashes } from "../experiment/grid-results.js";
import { writeTinyGrid } from "../experiment/tiny-grid.js";

let base: string;
let grid: string;

beforeAll(async () => {
  compile();
  base = mkdtempSync(join(tmpdir(), "polypaca-grid-kill-"));
  grid = await writeTinyGrid(base, {
    ...{ models: ["tiny", "tiny-llama"], methods: ["lora", "fft"], conditions: ["monolingual", "multilingual", "english", "downsampled"] },
    ...{ languages: ["en", "de", "fr"], testLanguages: ["en", "de", "fr"] },
  });
});

interface State {
  readonly status: string;
  readonly pid: number;
  readonly attempts: number;
}

function statesIn(out: string): State[] {
  const jobs = join(out, "jobs");
  if (!existsSync(jobs)) return [];
  return readdirSync(jobs).flatMap((name) => {
    const file = join(jobs, name, "state.json");
    return existsSync(file) ? [JSON.parse(readFileSync(file, "utf8")) as State] : [];
  });
}

/** Processes of jobs that run now. */
function runningJobs(out: string): number[] {
  return statesIn(out).flatMap(({ status, pid }) => (status === "running" ? [pid] : []));
}

function doneJobs(out: string): number {
  return statesIn(out).filter(({ status }) => status === "done").length;
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}

const kills = 10;

describe("a grid of 16 systems", { timeout: 900_000 }, () => {
  it("killed ten times at random ends with the responses, scores, figures and weights of one left alone", async () => {
    const args = (out: string): string[] => ["experiment", "run", grid, "--out", out, "--json", "--slots", "2", "--retries", "20"];
    const left = join(base, "left");
    const undisturbed = await startCli(args(left)).ended;
    expect(undisturbed.exitCode, undisturbed.stderr).toBe(0);
    const total = (JSON.parse(undisturbed.stdout) as { jobs: { done: number } }).jobs.done;

    const killed = join(base, "killed");
    const below = numbersFrom(2026);
    let runner = startCli(args(killed));
    for (let kill = 1; kill <= kills; kill++) {
      while (doneJobs(killed) < Math.floor((kill * total) / (kills + 1))) await sleep(20);
      do
        await sleep(below(400)); // somewhere inside of whatever runs now
      while (runningJobs(killed).length === 0);
      const hitsRunner = kill % 2 === 0;
      if (!hitsRunner || below(2) === 0) for (const pid of runningJobs(killed)) killProcess(pid);
      if (!hitsRunner) continue;
      runner.child.kill("SIGKILL");
      expect((await runner.ended).exitCode).toBe("SIGKILL");
      runner = startCli(args(killed)); // while jobs of the killed one may still run
    }
    const { exitCode, stderr, stdout } = await runner.ended;
    expect(exitCode, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ jobs: { done: total, failed: 0 } });
    expect(statesIn(killed).filter(({ attempts }) => attempts > 1).length).toBeGreaterThanOrEqual(kills / 2);
    expect(gridResults(killed)).toEqual(gridResults(left));
    expect(weightHashes(killed)).toEqual(weightHashes(left));
    expect(stepsByRun(killed)).toEqual(stepsByRun(left)); // no step is logged twice
  });

  it("stopped with SIGTERM stops its jobs, which save, and goes on to the same results", async () => {
    const out = join(base, "stopped");
    const args = ["experiment", "run", grid, "--out", out, "--json", "--slots", "2"];
    const runner = startCli(args);
    while (doneJobs(out) < 6 || runningJobs(out).length === 0) await sleep(20);
    runner.child.kill("SIGTERM");
    const stopped = await runner.ended;
    expect(stopped.exitCode).toBe(143);
    expect(stopped.stderr).toMatch(/CANCELLED: stopped with \d+ of \d+ jobs done/);
    expect(runningJobs(out)).toEqual([]);
    const resumed = await startCli(args).ended;
    expect(resumed.exitCode, resumed.stderr).toBe(0);
    expect(gridResults(out)).toEqual(gridResults(join(base, "left")));
    expect(weightHashes(out)).toEqual(weightHashes(join(base, "left")));
  });
});
