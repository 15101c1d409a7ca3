/** A tiny grid run to its end by the program, then changed, broken and mended. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile, runCli, startCli } from "../cli/run-cli.js";
import { startJudgeServer } from "../evaluate/judge/judging.js";
import { gridResults } from "../experiment/grid-results.js";
import { writeTinyGrid } from "../experiment/tiny-grid.js";

interface Status {
  readonly counts: Readonly<Record<string, number>>;
  readonly jobs: readonly { readonly folder: string; readonly kind: string; readonly standing: string; readonly attempts: number }[];
  readonly unused: readonly string[];
}

let base: string;
let grid: string;
const out = (): string => join(base, "out");

beforeAll(async () => {
  compile();
  base = mkdtempSync(join(tmpdir(), "polypaca-grid-"));
  grid = await writeTinyGrid(base, { methods: ["lora", "fft"], conditions: ["multilingual", "english"] });
});

function run(file: string, ...flags: string[]): Record<string, unknown> & { readonly exitCode: number | null; readonly stderr: string } {
  const { exitCode, stdout, stderr } = runCli(["experiment", "run", file, "--json", ...flags]);
  return { ...(JSON.parse(stdout || "{}") as object), exitCode, stderr };
}

function status(file = grid): Status {
  const { exitCode, stdout, stderr } = runCli(["experiment", "status", file, "--json"]);
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as Status;
}

/** The grid with another text somewhere, in a file beside it. */
function changed(from: string, to: string): string {
  const text = readFileSync(grid, "utf8");
  expect(text).toContain(from);
  const file = join(base, "changed.yaml");
  writeFileSync(file, text.replace(from, to));
  return file;
}

describe("a grid of two methods and two conditions", () => {
  it("is planned without anything being written", () => {
    const plan = run(grid, "--dry-run") as unknown as {
      jobs: { kind: string }[];
      missing: string[];
      counts: Record<string, number>;
      exitCode: number;
    };
    expect(plan.exitCode).toBe(0);
    // 2 mixes; per method 2 runs, and answers: multilingual, English in English, English in Norwegian.
    expect(
      plan.jobs
        .map(({ kind }) => kind)
        .sort()
        .join(" "),
    ).toBe(["figures", ...Array(6).fill("generate"), "mix", "mix", "score", ...Array(4).fill("train")].join(" "));
    expect(plan.missing).toEqual([]);
    expect(plan.counts).toMatchObject({ done: 0, waiting: 14 });
    expect(existsSync(out())).toBe(false);
  });

  it("runs to its end: every job once, with results where they belong", () => {
    const summary = run(grid, "--slots", "2");
    expect(summary.exitCode, summary.stderr).toBe(0);
    expect(summary.jobs).toMatchObject({ done: 14, failed: 0 });
    expect(status().jobs.map(({ attempts }) => attempts)).toEqual(Array(14).fill(1));
    const rows = readFileSync(join(out(), "responses/tiny-lora-english.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(rows.map(({ language, id }) => [language, id])).toEqual([
      ["en", 1],
      ["en", 2],
      ["no", 1],
      ["no", 2],
    ]);
    expect(rows[0]).toMatchObject({ system: "tiny-lora-english", model: "tiny", method: "lora", condition: "english", seed: 42 });
    const { systems, judges } = JSON.parse(readFileSync(join(out(), "scores/scores.json"), "utf8")) as {
      systems: { system: string }[];
      judges: string[];
    };
    expect(systems.map(({ system }) => system).sort()).toEqual(
      ["lora", "fft"].flatMap((method) => ["english", "multilingual"].map((condition) => `tiny-${method}-${condition}`)).sort(),
    );
    expect(judges).toEqual(["none (each response counts 1)"]);
    expect(readdirSync(join(out(), "figures")).some((name) => name.endsWith(".svg"))).toBe(true);
  });

  it("has nothing to do the second time", () => {
    const before = gridResults(out());
    expect(run(grid)).toMatchObject({ exitCode: 0, jobs: { done: 14 } });
    expect(status().jobs.map(({ attempts }) => attempts)).toEqual(Array(14).fill(1));
    expect(gridResults(out())).toEqual(before);
  });

  it("whose LoRA settings change runs LoRA's jobs again and what is made of them, and lists what is not used any more", () => {
    const before = status().jobs;
    const file = changed("learningRate: 0.01", "learningRate: 0.02");
    expect(run(file)).toMatchObject({ exitCode: 0, jobs: { done: 14 } });
    const { jobs, unused } = status(file);
    const kept = jobs
      .filter(({ folder }) => before.some((job) => job.folder === folder))
      .map(({ folder }) => folder.replace(/-[0-9a-f]{8}$/, ""));
    expect(kept.sort()).toEqual([
      "generate-tiny-fft-en-s42-en",
      "generate-tiny-fft-en-s42-no",
      "generate-tiny-fft-multilingual-s42",
      "mix-en",
      "mix-multilingual",
      "train-tiny-fft-en-s42",
      "train-tiny-fft-multilingual-s42",
    ]);
    expect(unused).toHaveLength(7);
  });

  it("goes back to what was done when the settings go back", () => {
    expect(run(grid)).toMatchObject({ exitCode: 0, jobs: { done: 14 } });
    expect(status().jobs.map(({ attempts }) => attempts)).toEqual(Array(14).fill(1));
  });

  it("is run to the same results by two runners at once, each job by one of them", async () => {
    const expected = gridResults(out());
    const file = changed(`out: ${out()}`, `out: ${join(base, "two")}`);
    const runners = [1, 2].map(() => startCli(["experiment", "run", file, "--json"]));
    for (const { exitCode, stderr } of await Promise.all(runners.map(({ ended }) => ended))) expect(exitCode, stderr).toBe(0);
    expect(status(file).jobs.map(({ attempts }) => attempts)).toEqual(Array(14).fill(1));
    expect(gridResults(join(base, "two"))).toEqual(expected);
  });
});

describe("a job that fails", () => {
  it("stops what depends on it, says why and how to go on, and is run again with --retry", () => {
    const folder = join(base, "prompts-broken");
    cpSync(join(base, "prompts"), folder, { recursive: true });
    // Its folder is new, its jobs are those of before: what is equal is done.
    const file = changed(`promptsDir: ${join(base, "prompts")}`, `promptsDir: ${folder}\njobsDir: ${join(out(), "jobs")}`);
    const place = ["--out", join(base, "broken"), "--slots", "2"];
    writeFileSync(join(folder, "test_no.jsonl"), "{broken\n");
    const failed = run(file, ...place);
    expect(failed.exitCode).toBe(1);
    // The jobs with Norwegian prompts fail, not those with English ones alone; scores and figures wait for them.
    expect(failed.jobs).toMatchObject({ done: 8, failed: 4, blocked: 2 });
    const [first] = failed.failed as { error: { code: string }; lastLines: string[]; log: string }[];
    expect(first!.error.code).toBe("BAD_RECORD");
    expect(first!.lastLines.join("\n")).toContain("test_no.jsonl");
    expect(existsSync(first!.log)).toBe(true);
    expect(run(file, ...place)).toMatchObject({ exitCode: 1, jobs: { failed: 4 } }); // not run again unasked
    // Mended prompts are other prompts: the jobs get other folders, whose work is done.
    cpSync(join(base, "prompts/test_no.jsonl"), join(folder, "test_no.jsonl"));
    expect(run(file, ...place)).toMatchObject({ exitCode: 0, jobs: { done: 14 } });
    expect(gridResults(join(base, "broken"))).toEqual(gridResults(out()));
  });
});

describe("a grid with a judge", () => {
  it("asks for each pair once, also after a change that leaves responses as they are", async () => {
    const server = await startJudgeServer();
    const text = `${readFileSync(grid, "utf8")}judge: { model: m, baseUrl: "${server.url}", timeout: 5 }\n`;
    const file = join(base, "judged.yaml");
    writeFileSync(file, text);
    const first = await startCli(["experiment", "run", file, "--json"], { OPENAI_API_KEY: "k" }).ended;
    expect(first.exitCode, first.stderr).toBe(0);
    const { judges } = JSON.parse(readFileSync(join(out(), "scores/scores.json"), "utf8")) as { judges: string[] };
    expect(judges).toEqual(["m"]);
    const asked = server.requests.length;
    expect(asked).toBeLessThanOrEqual(16);
    writeFileSync(file, text.replace("model: m,", "model: m, judge: renamed,"));
    const second = await startCli(["experiment", "run", file, "--json"], { OPENAI_API_KEY: "k" }).ended;
    expect(second.exitCode, second.stderr).toBe(0);
    expect(server.requests).toHaveLength(asked);
  });
});

describe("a grid with shared validation and references", () => {
  it("validates on records that no run has seen, and says how likely each system finds their answers", () => {
    const text = readFileSync(grid, "utf8")
      .replace(/ *- fft\n/, "")
      .replace(`out: ${out()}`, `out: ${join(base, "shared")}`);
    const file = join(base, "shared.yaml");
    writeFileSync(file, `${text}validation: shared\nlikelihood: { records: 2 }\n`);
    const summary = run(file);
    expect(summary.exitCode, summary.stderr).toBe(0);
    const { systems } = JSON.parse(readFileSync(join(base, "shared/scores/likelihood.json"), "utf8")) as {
      systems: { system: string; languages: Record<string, { references: number; logLikelihood: number }> }[];
    };
    expect(systems.map(({ system }) => system)).toEqual(["tiny-lora-multilingual", "tiny-lora-english"]);
    for (const { languages } of systems) {
      expect(Object.keys(languages)).toEqual(["de", "en"]);
      for (const { references, logLikelihood } of Object.values(languages)) {
        expect(references).toBe(2);
        expect(logLikelihood).toBeLessThan(0);
        expect(logLikelihood).toBeGreaterThan(-20);
      }
    }
    expect(readFileSync(join(base, "shared/scores/likelihood.txt"), "utf8")).toContain("tiny-lora-english");
  });
});

describe("a grid that lacks something", () => {
  it("is planned with what is missing, by the shape of the model's preset, and not run", () => {
    const file = changed("- tiny", "- bloom-560m");
    const plan = run(file, "--dry-run") as unknown as {
      missing: string[];
      notes: string[];
      jobs: { kind: string; cost: { training: { flops: number } | null } }[];
    };
    expect(plan.missing).toEqual([join(base, "models/bloom-560m")]);
    expect(plan.notes.join("\n")).toContain("estimated");
    expect(plan.jobs.find(({ kind }) => kind === "train")!.cost.training!.flops).toBeGreaterThan(1e12);
    const refused = run(file, "--out", join(base, "none"));
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toContain(`NOT_FOUND: the grid reads what is not there:\n  ${join(base, "models/bloom-560m")}`);
    expect(existsSync(join(base, "none"))).toBe(false);
  });

  it("status of what was never begun says so", () => {
    rmSync(join(base, "never"), { recursive: true, force: true });
    const { exitCode, stderr } = runCli(["experiment", "status", grid, "--out", join(base, "never")]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("no experiment was begun there");
  });
});
