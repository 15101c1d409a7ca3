import { describe, expect, it } from "vitest";
import { expandGrid } from "../../src/experiment/expand-grid.js";
import type { GridFile } from "../../src/experiment/grid-settings.js";
import { type IdentifiedJob, identifyJobs } from "../../src/experiment/identify-jobs.js";
import { gridOf } from "./tiny-grid.js";

const all: Partial<GridFile> = {
  ...{
    models: ["bloom-560m", "pythia-70m"],
    methods: ["lora", "fft"],
    conditions: ["monolingual", "multilingual", "english", "downsampled"],
  },
  ...{ languages: ["en", "de", "fr"], testLanguages: ["en", "de", "no"], judge: { model: "m" } },
};

/** @param changedPath its end: that input's content is another one */
async function identified(changes: Partial<GridFile> = {}, changedPath = "nothing"): Promise<readonly IdentifiedJob[]> {
  const { jobs } = expandGrid(await gridOf({ ...all, ...changes }));
  return (await identifyJobs(jobs, async ({ path }) => (path.endsWith(changedPath) ? `${path} changed` : path))).jobs;
}

/** Jobs that the second list has and the first has not, by the beginnings of their names. */
function newIn(before: readonly IdentifiedJob[], after: readonly IdentifiedJob[]): string[] {
  const known = new Set(before.map(({ hash }) => hash));
  return after.filter(({ hash }) => !known.has(hash)).map(({ job }) => `${job.kind} ${job.name}`);
}

const evaluation = ["score all-systems", "figures all-systems"];

describe("what is run again", () => {
  it("is nothing where nothing has changed, or only what no result depends on", async () => {
    const before = await identified();
    expect(newIn(before, await identified())).toEqual([]);
    const free = { train: { saveTotalLimit: 7 }, judge: { model: "m", concurrency: 2, baseUrl: "http://127.0.0.1:1/v1" } };
    expect(newIn(before, await identified(free))).toEqual([]);
  });

  it("after a change of one language's data is what was made of it", async () => {
    const names = newIn(await identified(), await identified({}, "alpaca.fr.json"));
    for (const name of names) expect(name).toMatch(/-fr-|^mix fr$|multilingual|downsampled|all-systems/);
    expect(names.filter((name) => name.startsWith("train")).sort()).toEqual(
      ["bloom-560m", "pythia-70m"]
        .flatMap((model) =>
          ["lora", "fft"].flatMap((method) => ["fr", "multilingual", "downsampled"].map((set) => `train ${model}-${method}-${set}-s42`)),
        )
        .sort(),
    );
    expect(names).toEqual(expect.arrayContaining(evaluation));
  });

  it("after a change of one method's training is that method's runs and what follows them", async () => {
    const names = newIn(await identified(), await identified({ train: { fft: { learningRate: 1e-3 } } }));
    expect(names.length).toBeGreaterThan(evaluation.length);
    for (const name of names) expect(name).toMatch(/-fft-|all-systems/);
    expect(names.some((name) => name.startsWith("mix"))).toBe(false);
  });

  it("after a change of test prompts is no training", async () => {
    const names = newIn(await identified(), await identified({}, "test_no.jsonl"));
    expect(new Set(names.map((name) => name.split(" ")[0]))).toEqual(new Set(["generate", "judge", "score", "figures"]));
    for (const name of names) expect(name).not.toMatch(/monolingual/); // which are not asked in Norwegian
  });

  it("after another judge is judging and scoring", async () => {
    const names = newIn(await identified(), await identified({ judge: { model: "other" } }));
    expect(new Set(names.map((name) => name.split(" ")[0]))).toEqual(new Set(["judge", "score", "figures"]));
  });

  it("after a change of how figures are drawn is the drawing", async () => {
    expect(newIn(await identified(), await identified({ figures: { png: true } }))).toEqual(["figures all-systems"]);
  });
});

describe("inputs that are not there", () => {
  it("are listed, each once", async () => {
    const { jobs } = expandGrid(await gridOf(all));
    const { missing } = await identifyJobs(jobs, async ({ path }) => (path.endsWith("pythia-70m") ? null : path));
    expect(missing).toHaveLength(1);
    expect(missing[0]).toMatch(/models\/pythia-70m$/);
  });
});
