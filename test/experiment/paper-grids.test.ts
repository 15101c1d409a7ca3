/** The study's grids, planned without weights, on the bundled sample: jobs, tokens, and budgets that are equal where the study has them so. */
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { compile, runCli } from "../cli/run-cli.js";
import { dataFile } from "../data/data-folder.js";
import { sampleFolder } from "../train/tiny-run.js";

beforeAll(compile);

interface Plan {
  readonly jobs: readonly {
    readonly folder: string;
    readonly kind: string;
    readonly cost: { readonly training: Training | null; readonly memoryBytes: number | null; readonly diskBytes: number | null };
  }[];
  readonly systems: readonly {
    readonly name: string;
    readonly model: string;
    readonly method: string;
    readonly condition: string;
    readonly runs: readonly string[];
  }[];
  readonly missing: readonly string[];
  readonly notes: readonly string[];
}

interface Training {
  readonly examples: number;
  readonly steps: number;
  readonly tokens: number;
  readonly flops: number;
  readonly seconds: number | null;
  readonly overC: number;
}

const bloom = ["bloom-560m", "bloom-1b1", "bloom-1b7", "bloom-3b", "bloom-7b1"];
const sevenBillion = ["bloom-7b1", "pythia-6.9b-deduped", "llama-7b", "open-llama-7b", "baichuan2-7b"];
const pythia = ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"].map((size) => `pythia-${size}-deduped`);

/**
 * With all conditions a model and method has 11 runs (9 languages, multilingual, downsampled; English is one of the nine) and 9 jobs of
 * answers (6 monolingual, the English run in the others, multilingual, downsampled). Unseen languages: 3 runs, each answering once.
 */
const grids = [
  { name: "figure-1", models: bloom, methods: ["lora"], counts: { mix: 11, train: 55, generate: 45, judge: 20 } },
  { name: "figure-2", models: bloom, methods: ["fft"], counts: { mix: 11, train: 55, generate: 45, judge: 20 } },
  { name: "figure-3", models: bloom, methods: ["lora"], counts: { mix: 3, train: 15, generate: 15, judge: 15 } },
  { name: "figure-4", models: bloom, methods: ["lora", "fft"], counts: { mix: 11, train: 110, generate: 90, judge: 40 } },
  { name: "figure-5", models: sevenBillion, methods: ["lora"], counts: { mix: 11, train: 55, generate: 45, judge: 20 } },
  { name: "pythia", models: pythia, methods: ["lora"], counts: { mix: 11, train: 88, generate: 72, judge: 32 } },
];

const plans = new Map<string, Plan>();

/** The bundled sample: 9 languages of equal size. */
function planOf(name: string): Plan {
  const known = plans.get(name);
  if (known) return known;
  const file = join(import.meta.dirname, `../../experiments/paper-${name}.yaml`);
  const { exitCode, stdout, stderr } = runCli(["experiment", "run", file, "--dry-run", "--json", "--data-dir", sampleFolder]);
  expect(exitCode, stderr).toBe(0);
  const plan = JSON.parse(stdout) as Plan;
  plans.set(name, plan);
  return plan;
}

describe.each(grids)("paper-$name", ({ name, models, methods, counts }) => {
  it("has the study's models, methods and number of jobs", () => {
    const { jobs, systems } = planOf(name);
    const found = Object.fromEntries(Object.keys(counts).map((kind) => [kind, jobs.filter((job) => job.kind === kind).length]));
    expect(found).toEqual(counts);
    expect(jobs).toHaveLength(Object.values(counts).reduce((sum, count) => sum + count, 0) + 2);
    expect([...new Set(systems.map(({ model }) => model))]).toEqual(models);
    expect([...new Set(systems.map(({ method }) => method))]).toEqual(methods);
  });

  it("lacks weights and prompts alone, and says so", () => {
    const { missing, notes } = planOf(name);
    expect(missing.filter((path) => !/prompts\/test_\w+\.jsonl$/.test(path)).map((path) => path.split("/").at(-1))).toEqual(
      [...models].sort(),
    );
    expect(notes.join("\n")).toContain("tokens are estimated");
  });

  it("spends what the study says: N x C on monolingual and multilingual, C on English and downsampled", () => {
    const { jobs, systems } = planOf(name);
    const training = new Map(jobs.map(({ folder, cost }) => [folder, cost.training]));
    for (const { condition, runs } of systems) {
      const costs = runs.map((run) => training.get(run)!);
      const sum = (value: (cost: Training) => number): number => costs.reduce((total, cost) => total + value(cost), 0);
      expect(sum(({ overC }) => overC)).toBeCloseTo(condition === "monolingual" || condition === "multilingual" ? 9 : 1, 10);
      expect(sum(({ tokens }) => tokens)).toBeGreaterThan(0);
    }
    // Tokens: the same records, in nine runs or in one.
    for (const model of models)
      for (const method of methods) {
        const tokensOf = (condition: string): number | undefined => {
          const system = systems.find((each) => each.model === model && each.method === method && each.condition === condition);
          return system?.runs.reduce((total, run) => total + training.get(run)!.tokens, 0);
        };
        const monolingual = tokensOf("monolingual");
        if (monolingual !== undefined) expect(monolingual).toBe(tokensOf("multilingual"));
      }
  });

  it("knows every run's memory, disk and FLOPs by the shape of its model's preset", () => {
    const { jobs } = planOf(name);
    for (const { kind, cost } of jobs) {
      if (kind !== "train") continue;
      expect(cost.training!.flops).toBeGreaterThan(0);
      expect(cost.memoryBytes).toBeGreaterThan(1e8);
      expect(cost.diskBytes).toBeGreaterThan(1e6);
    }
  });
});

describe("hours", () => {
  it("come from measured rates, at the rate of the nearest size", async () => {
    const rate = { method: "lora", device: "cuda", dtype: "bf16", parameters: 5e8, tokensPerSecond: 1e5, flopsPerToken: 2e9 };
    const bench = await dataFile("bench.json", { cases: [rate] });
    const file = join(import.meta.dirname, "../../experiments/paper-figure-3.yaml");
    const flags = ["--dry-run", "--data-dir", sampleFolder, "--bench", bench];
    const { stdout } = runCli(["experiment", "run", file, ...flags, "--json"]);
    const { jobs } = JSON.parse(stdout) as Plan;
    const training = jobs.flatMap(({ cost }) => cost.training ?? []);
    for (const { flops, seconds } of training) expect(seconds).toBeCloseTo(flops / (1e5 * 2e9), 6);
    const hours = training.reduce((sum, { seconds }) => sum + seconds!, 0) / 3600;
    expect(runCli(["experiment", "run", file, ...flags]).stdout).toContain(`training time: ${hours.toFixed(hours < 10 ? 2 : 0)} h`);
  });
});

describe("the study's grids together", () => {
  it("share their runs: figure 4 tunes nothing that figures 1 and 2 have not", () => {
    const runsOf = (name: string): string[] =>
      planOf(name)
        .jobs.filter(({ kind }) => kind === "train")
        .map(({ folder }) => folder);
    expect(new Set(runsOf("figure-4"))).toEqual(new Set([...runsOf("figure-1"), ...runsOf("figure-2")]));
    expect(runsOf("figure-1")).toEqual(expect.arrayContaining(runsOf("figure-3")));
  });
});
