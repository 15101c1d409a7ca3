import { describe, expect, it } from "vitest";
import { conditions as allConditions } from "../../src/budget/mix-settings.js";
import { type ExpandedGrid, expandGrid } from "../../src/experiment/expand-grid.js";
import type { Grid } from "../../src/experiment/grid.js";
import type { GridFile } from "../../src/experiment/grid-settings.js";
import { dependenciesOf, type Job, type JobKind } from "../../src/experiment/job.js";
import { numbersFrom } from "../data/data-folder.js";
import { gridOf } from "./tiny-grid.js";

function numberOf({ jobs }: ExpandedGrid, kind: JobKind): number {
  return jobs.filter((job) => job.kind === kind).length;
}

/** A grid of any size, the same for the same number. */
async function randomGrid(number: number): Promise<Grid> {
  const below = numbersFrom(number);
  const some = <T>(items: readonly T[]): T[] => {
    const chosen = items.filter(() => below(2) === 0);
    return chosen.length > 0 ? chosen : [items[below(items.length)]!];
  };
  const flag = (): boolean => below(2) === 0;
  const languages = [...new Set(["en", ...some(["de", "fr", "fi", "zh"])])];
  return await gridOf({
    ...{
      models: some(["bloom-560m", "bloom-1b1", "pythia-70m"]),
      methods: some(["lora", "fft"] as const),
      conditions: some(allConditions),
    },
    ...{ languages, testLanguages: [...new Set(["en", ...some(["de", "fr", "no", "bn"])])], seeds: some([1, 2, 3]) },
    validation: flag() ? "own" : "shared",
    mix: {
      budget: some(["examples", "tokens", "flops"] as const)[0]!,
      ...(flag() && { matchBudget: true }),
      ...(flag() && { perLanguage: 10 }),
    },
    ...(flag() && { judge: { model: "judge" } }),
  });
}

const grids = Array.from({ length: 24 }, (_, number) => number);

describe.each(grids)("grid %i", (number) => {
  it("has jobs whose keys are unique, each after those it depends on", async () => {
    const { jobs } = expandGrid(await randomGrid(number));
    const before = new Set<string>();
    for (const job of jobs) {
      for (const key of dependenciesOf(job)) expect(before).toContain(key);
      expect(before).not.toContain(job.key);
      before.add(job.key);
    }
  });

  it("has no two jobs with one name of a kind", async () => {
    const { jobs } = expandGrid(await randomGrid(number));
    // Mixes of several models' tokens may differ only in the method's template, which is in the name too.
    expect(new Set(jobs.map(({ kind, name }) => `${kind} ${name}`)).size).toBe(jobs.length);
  });

  it("has a system for each place, which answers each of its languages exactly once", async () => {
    const grid = await randomGrid(number);
    const { jobs, systems } = expandGrid(grid);
    const { models, methods, seeds, conditions } = grid;
    expect(systems).toHaveLength(models.length * methods.length * seeds.length * conditions.length);
    const score = jobs.find((job) => job.kind === "score") as Job & { readonly kind: "score" };
    for (const system of systems) {
      const answers = score.inputs[`responses:${system.name}`]!.map(
        (input) => jobs.find((job) => input.kind === "output" && job.key === input.job)!,
      );
      const languages = answers.flatMap((job) => (job.kind === "generate" ? job.settings.languages : []));
      expect([...languages].sort()).toEqual([...system.languages].sort());
      const runs = answers.map((job) => (job.inputs.run![0] as { readonly job: string }).job);
      expect(new Set(system.runs)).toEqual(new Set([...system.runs, ...runs]));
    }
  });

  it("is the same from the same settings, and no job is lost by adding a condition, a model or a seed", async () => {
    const grid = await randomGrid(number);
    const keys = (of: Grid): string[] =>
      expandGrid(of)
        .jobs.filter(({ kind }) => kind === "train" || kind === "mix")
        .map(({ key }) => key);
    expect(keys(grid)).toEqual(keys(await randomGrid(number)));
    const larger = { ...grid, conditions: [...allConditions], seeds: [...new Set([...grid.seeds, 9])] };
    expect(keys(larger)).toEqual(expect.arrayContaining(keys(grid)));
  });
});

describe("what is shared", () => {
  const all: Partial<GridFile> = { conditions: [...allConditions], languages: ["en", "de", "fr"], testLanguages: ["en", "de", "no"] };

  it("is the English run: the monolingual model's, the English condition's", async () => {
    const { jobs, systems } = expandGrid(await gridOf(all));
    const runsOf = (condition: string): readonly string[] => systems.find((system) => system.condition === condition)!.runs;
    expect(runsOf("monolingual")).toHaveLength(3);
    expect(runsOf("monolingual")[0]).toBe(runsOf("english")[0]);
    expect(numberOf({ jobs, systems }, "train")).toBe(5);
    expect(numberOf({ jobs, systems }, "mix")).toBe(5);
    // en and de of their own models; de and no of the English one; multilingual; downsampled. No French is asked for.
    expect(numberOf({ jobs, systems }, "generate")).toBe(5);
  });

  it("is not the English run where English is fitted to the budget", async () => {
    const { systems } = expandGrid(await gridOf({ ...all, mix: { matchBudget: true } }));
    const [mono, english] = ["monolingual", "english"].map((condition) => systems.find((system) => system.condition === condition)!);
    expect(mono!.runs).not.toContain(english!.runs[0]);
  });

  it("are mixes, between models, methods and seeds, unless their tokens or FLOPs are counted", async () => {
    const many = { ...all, models: ["bloom-560m", "bloom-1b1"], methods: ["lora", "fft"], seeds: [1, 2] } as const;
    const mixes = async (budget: "examples" | "tokens" | "flops") =>
      expandGrid(await gridOf({ ...many, models: [...many.models], methods: [...many.methods], seeds: [...many.seeds], mix: { budget } }))
        .jobs.filter(({ kind }) => kind === "mix")
        .map(({ name }) => name);
    expect(await mixes("examples")).toHaveLength(5);
    const counted = await mixes("flops");
    expect(counted.filter((name) => name.startsWith("downsampled"))).toHaveLength(4);
    expect(counted).toHaveLength(4 + 4);
  });
});

describe("monolingual systems", () => {
  it("take each language from its model and have no answers in unseen languages", async () => {
    const { jobs, systems } = expandGrid(await gridOf({ conditions: ["monolingual"], testLanguages: ["no", "de", "en"] }));
    expect(systems[0]!.languages).toEqual(["de", "en"]);
    const asked = jobs.flatMap((job) => (job.kind === "generate" ? [[job.settings.system, ...job.settings.languages]] : []));
    expect(asked).toEqual([
      ["bloom-560m-lora-en-s42", "en"],
      ["bloom-560m-lora-de-s42", "de"],
    ]);
  });
});

describe("settings that change nothing", () => {
  it("make no other jobs: how many checkpoints are kept is in no key that results depend on", async () => {
    const { decidingSettings } = await import("../../src/experiment/job.js");
    const train = expandGrid(await gridOf({ train: { saveTotalLimit: 9 } })).jobs.find(({ kind }) => kind === "train")!;
    expect(train.settings).toMatchObject({ saveTotalLimit: 9 });
    expect(decidingSettings(train)).not.toHaveProperty("saveTotalLimit");
  });

  it("of the sample leave whole languages' mixes alone", async () => {
    const keysOf = async (mix: GridFile["mix"]): Promise<string[]> =>
      expandGrid(await gridOf({ conditions: ["monolingual", "multilingual"], mix }))
        .jobs.filter(({ kind }) => kind === "mix")
        .map(({ key }) => key);
    expect(await keysOf({ budget: "tokens", sampling: "disjoint" })).toEqual(await keysOf({}));
  });
});

describe("shared validation", () => {
  it("holds records out once, before mixing, and validates each run on its languages", async () => {
    const grid = await gridOf({ conditions: ["monolingual", "multilingual"], validation: "shared" });
    const { jobs } = expandGrid(grid);
    expect(jobs.filter(({ kind }) => kind === "split")).toHaveLength(1);
    const validation = jobs.flatMap((job) => (job.kind === "train" ? [(job.inputs.validation![0] as { readonly path: string }).path] : []));
    expect(validation).toEqual(["split/validation/en.jsonl", "split/validation/de.jsonl", "split/validation/all.jsonl"]);
    const nothing = { validation: "shared", train: { validationSize: 0 }, likelihood: {} } as const;
    expect(() => expandGrid({ ...grid, ...nothing })).toThrow(/no references/);
    expect(jobs.filter((job) => job.kind === "train").every((job) => job.kind === "train" && job.settings.validationSize === 0)).toBe(true);
  });
});
