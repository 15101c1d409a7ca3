/** What jobs of each kind do: the library's functions behind the commands of the same names. Each goes on from what a kill left. */
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { manifestFileName, mix } from "../budget/mix.js";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import type { Progress } from "../train/progress.js";
import { holdOut } from "./hold-out.js";
import type { JobKind, JobOf, SystemLabel } from "./job.js";
import type { JobFolder, JobRecord } from "./job-folder.js";
import { readLikelihoods, writeLikelihoods } from "./likelihood-table.js";
import { outputs } from "./outputs.js";
import { writeResponsesOf, writeUniformJudgements } from "./system-rows.js";

export interface TaskEnvironment {
  readonly signal?: AbortSignal;
  readonly note: (line: string) => void;
  readonly openProgress: (task: { readonly label: string; readonly start: number; readonly total: number }) => Progress;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds of a steady clock. */
  readonly steadyNow: () => number;
  /** Uniform in [0, 1): spreads retries. */
  readonly random: () => number;
  /** Environment variables: one may hold the judge's API key. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Folders for tokenised data and for token counts, which all jobs share. */
  readonly cacheDirs: { readonly tokens: string; readonly counts: string };
  /** Of the processor, for what runs on several. */
  readonly threads: number;
}

class Task<Kind extends JobKind> {
  constructor(
    readonly folder: JobFolder,
    readonly job: JobOf<Kind>,
    readonly environment: TaskEnvironment,
  ) {}

  get settings(): JobOf<Kind>["settings"] {
    return this.job.settings;
  }

  /** Paths of the inputs of this name. */
  inputs(name: string): string[] {
    return (this.job.inputs[name] ?? []).map((input) => this.folder.inputPath(input, (job) => job));
  }

  input(name: string): string {
    return this.optionalInput(name) ?? missingInput(this.folder, name);
  }

  optionalInput(name: string): string | null {
    return this.inputs(name)[0] ?? null;
  }
}

function missingInput(folder: JobFolder, name: string): never {
  throw new PolypacaError("BAD_CONFIG", `${folder.path}: its settings name no input "${name}".`);
}

/**
 * Does the job's work.
 *
 * @returns what the command of that name prints with --json
 * @throws PolypacaError as that command does
 */
export async function runTask(folder: JobFolder, record: JobRecord, environment: TaskEnvironment): Promise<unknown> {
  await mkdir(folder.output(), { recursive: true });
  switch (record.kind) {
    case "split":
      return await runSplit(new Task(folder, record, environment));
    case "mix":
      return await runMix(new Task(folder, record, environment));
    case "train":
      return await runTrain(new Task(folder, record, environment));
    case "generate":
      return await runGenerate(new Task(folder, record, environment));
    case "likelihood":
      return await runLikelihood(new Task(folder, record, environment));
    case "judge":
      return await runJudge(new Task(folder, record, environment));
    case "score":
      return await runScore(new Task(folder, record, environment));
    case "figures":
      return await runFigures(new Task(folder, record, environment));
  }
}

/** Its output folder is complete or absent, so one that is there is what an attempt left that was killed before it could say so. */
async function runSplit(task: Task<"split">): Promise<unknown> {
  return existsSync(task.folder.output(outputs.split.folder))
    ? null
    : await holdOut(task.inputs("data"), task.settings, task.folder.output(outputs.split.folder));
}

async function runMix(task: Task<"mix">): Promise<unknown> {
  const { folder, settings, environment } = task;
  const out = folder.output(outputs.mix.folder);
  const manifest = join(out, manifestFileName);
  if (existsSync(manifest)) return JSON.parse(readFileSync(manifest, "utf8")) as unknown; // as for split
  const { signal, note, openProgress, cacheDirs, threads } = environment;
  const [model, tokenizer, template] = [task.optionalInput("model"), task.optionalInput("tokenizer"), task.optionalInput("template")];
  const given = { ...(model !== null && { model }), ...(tokenizer !== null && { tokenizer }), ...(template !== null && { template }) };
  const dataDir = dirname(task.input("data"));
  return await mix({ ...settings, ...given, dataDir, out }, { signal, note, openProgress, cacheDir: cacheDirs.counts, threads });
}

async function runTrain(task: Task<"train">): Promise<unknown> {
  const { train } = await import("../train/train.js");
  const { signal, note, openProgress, now, cacheDirs } = task.environment;
  const given = { model: task.input("model"), data: task.inputs("data"), out: task.folder.output(outputs.train.run) };
  const files = { validationFile: task.optionalInput("validation"), template: task.optionalInput("template") };
  const result = await train(
    { ...task.settings, ...given, ...files, resume: true, dryRun: false },
    { ...(signal && { signal }), note, openProgress, now, cacheDir: cacheDirs.tokens },
  );
  if (result.kind !== "trained") throw new PolypacaError("INTERNAL", "a training job ended as a preview");
  return result.summary;
}

async function runGenerate(task: Task<"generate">): Promise<unknown> {
  const { generate } = await import("../generate/generate.js");
  const { model, method, languages: _, ...settings } = task.settings;
  const { signal, note, openProgress, steadyNow } = task.environment;
  return await generate(
    {
      ...{ ...settings, modelName: model, prompts: task.inputs("prompts"), out: task.folder.output(outputs.generate.responses) },
      ...tunedModel(task, method),
      ...{ preset: null, language: null, template: null, condition: null },
    },
    { ...(signal && { signal }), note, openProgress, now: steadyNow },
  );
}

/** Without validation data no checkpoint is the best. */
function tunedModel(
  task: Task<"generate" | "likelihood">,
  method: "lora" | "fft",
): { readonly model: string; readonly adapter: string | null } {
  const run = task.input("run");
  const tuned = existsSync(join(run, "best")) ? join(run, "best") : join(run, "last");
  return method === "lora" ? { model: task.input("model"), adapter: tuned } : { model: tuned, adapter: null };
}

async function runLikelihood(task: Task<"likelihood">): Promise<unknown> {
  const { referenceLikelihood } = await import("../generate/reference-likelihood.js");
  const { method, languages, ...settings } = task.settings;
  const files = task.inputs("references");
  const references = languages.map((language, i) => ({ language, file: files[i]! }));
  const { signal, note, openProgress, steadyNow } = task.environment;
  return await referenceLikelihood(
    { ...settings, ...tunedModel(task, method), references, out: task.folder.output(outputs.likelihood.rows) },
    { ...(signal && { signal }), note, openProgress, now: steadyNow },
  );
}

/** One journal for all jobs of the folder: a pair that was judged for another system, or before a setting changed, is not asked for again. */
async function runJudge(task: Task<"judge">): Promise<unknown> {
  const [{ judge }, { resolveJudgeSettings }] = await Promise.all([
    import("../evaluate/judge/judge.js"),
    import("../evaluate/judge/settings.js"),
  ]);
  const { folder, settings, environment } = task;
  const responses = folder.output(outputs.judge.responses);
  await writeResponsesOf(settings.system, task.inputs("responses"), responses);
  const files = { responses: [responses], out: folder.output(outputs.judge.judgements), promptFile: task.optionalInput("prompt") };
  const resolved = resolveJudgeSettings(settings.judge, { ...files, journal: join(dirname(folder.path), judgeJournalName) });
  const { signal, note, openProgress, now, random, variables } = environment;
  const ask = () => judge(resolved, { ...(signal && { signal }), note, openProgress, now, random, variables });
  const summary = await whenUnlocked(ask, environment);
  if (summary.failed === 0) return summary;
  const message = `no answer came for ${summary.failed} of ${summary.rows} rows, see "error" in ${summary.out}`;
  throw new PolypacaError("INCOMPLETE", `${message}. Run the experiment again with --retry to ask for them.`);
}

export const judgeJournalName = "judge.journal";

/** Jobs that share the journal take turns, also those of another runner. */
async function whenUnlocked<T>(work: () => Promise<T>, { signal, note }: TaskEnvironment): Promise<T> {
  for (let turn = 0; ; turn++) {
    try {
      return await work();
    } catch (cause) {
      if (PolypacaError.from(cause).code !== "RUN_LOCKED") throw cause;
      if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while another job judged.", { cause });
      if (turn === 0) note(`waiting: ${PolypacaError.from(cause).message}`);
      await sleep(1_000);
    }
  }
}

async function runScore(task: Task<"score">): Promise<unknown> {
  const { scoreFiles, writeScoreFiles } = await import("../evaluate/score-files.js");
  const { folder, environment } = task;
  const { systems, isJudged, candidates, seenLanguages, comparing, resamples, seed, allowIncomplete } = task.settings;
  for (const name of [outputs.score.responses, outputs.score.judgements]) await mkdir(folder.output(name), { recursive: true });
  const fileOf = (name: string, { system }: SystemLabel): string => folder.output(join(name, `${system}.jsonl`));
  for (const label of systems) {
    const responses = fileOf(outputs.score.responses, label);
    await writeResponsesOf(label, task.inputs(`responses:${label.system}`), responses);
    const judgements = fileOf(outputs.score.judgements, label);
    if (isJudged) await writeFileAtomic(judgements, readFileSync(task.input(`judgements:${label.system}`)));
    else await writeUniformJudgements(responses, judgements);
  }
  if (!isJudged) environment.note("no judge is configured: each response counts 1, so scores are the responses in the prompt's language");
  const scored = await scoreFiles({
    ...{ responses: systems.map((label) => fileOf(outputs.score.responses, label)), prompts: task.inputs("prompts") },
    ...{ judgements: systems.map((label) => fileOf(outputs.score.judgements, label)), lidModel: task.optionalInput("lidModel") },
    ...{ language: null, system: null, candidates, seenLanguages, comparing, resamples, seed },
  });
  const { report } = scored;
  await writeScoreFiles(scored, folder.output(outputs.score.scores));
  const likelihoods = await Promise.all(systems.map(({ system }) => readLikelihoods(system, task.inputs(`likelihood:${system}`))));
  if (likelihoods.some(({ languages }) => Object.keys(languages).length > 0))
    await writeLikelihoods(likelihoods, folder.output(outputs.score.scores));
  if (report.incomplete === 0 || allowIncomplete) return { systems: report.systems, incomplete: report.incomplete };
  const message = `${report.incomplete} cells lack a response or a judgement, see ${folder.output(outputs.score.scores)}`;
  throw new PolypacaError("INCOMPLETE", `${message}. Set score.allowIncomplete, or have the judge asked again.`);
}

async function runFigures(task: Task<"figures">): Promise<unknown> {
  const { figuresOfFiles } = await import("../report/figure-files.js");
  const { folder, settings } = task;
  const catalog = folder.output(outputs.figures.catalog);
  await writeFileAtomic(catalog, stringify({ models: settings.models }));
  const { familySize, png } = settings;
  return await figuresOfFiles({
    scores: task.inputs("scores"),
    out: folder.output(outputs.figures.figures),
    models: catalog,
    familySize,
    png,
  });
}
