/**
 * The grid file: models x methods x conditions x languages x seeds, and the settings of every kind of job. Settings of a job are those
 * of its command, under the same names; what the grid itself decides (folders, files, names of systems) cannot be set.
 */
import { z } from "zod";
import { budgetUnits } from "../budget/costs.js";
import { conditions, samplings } from "../budget/mix-settings.js";
import { judgeSettingsSchema } from "../evaluate/judge/settings.js";
import { parseParameters } from "../report/model-sizes.js";
import { type CheckedSettings, checkSettings } from "../settings/check-settings.js";
import { trainSettingsSchema } from "../train/settings.js";

const text = z.string().min(1);
const code = z.string().regex(/^[a-z]{2,3}$/, 'expected a language code such as "fi" (ISO 639)');
const count = z.int().positive();
const seed = z.int().nonnegative();

/** A list without repetitions. */
function listOf<Item extends z.ZodType<string | number>>(item: Item) {
  return z
    .array(item)
    .min(1)
    .superRefine((values, context) => {
      for (const [index, value] of values.entries()) {
        if (values.indexOf(value) !== index)
          context.addIssue({ code: "custom", path: [index], message: `${String(value)} is named twice` });
      }
    });
}

const parameters = z
  .union([text, z.number()])
  .refine((value) => parseParameters(String(value)) !== null, { error: "expected a size such as 560M, 1.1B or a number" });

/** Part of a system's name and of folders' names. */
const modelName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "expected letters, digits, dots, hyphens and underscores");

const model = z.strictObject({
  name: modelName,
  /** Folder in Hugging Face form; default `<modelsDir>/<name>`. */
  path: text.optional(),
  /** For figures, where the name does not tell: default the architecture and the counted parameters. */
  family: text.optional(),
  parameters: parameters.optional(),
});

const models = z
  .array(z.union([modelName, model]))
  .min(1)
  .superRefine((values, context) => {
    const names = values.map((value) => (typeof value === "string" ? value : value.name));
    for (const [index, name] of names.entries()) {
      if (names.indexOf(name) !== index) context.addIssue({ code: "custom", path: [index], message: `${name} is named twice` });
    }
  });

/** How the conditions' training files are made; see `MixSettings`. */
const mix = z.strictObject({
  budget: z.enum(budgetUnits),
  size: count,
  perLanguage: count,
  sampling: z.enum(samplings),
  matchBudget: z.boolean(),
  allowMissing: z.boolean(),
  skipBadRecords: z.boolean(),
  /** Of samples, order and, with `validation: shared`, of the records held out. Seeds of the grid are those of training. */
  seed,
});

/** What a grid cannot set: the jobs get it from it. */
const recipe = trainSettingsSchema
  .omit({ model: true, data: true, method: true, out: true, validationFile: true, seed: true, resume: true, dryRun: true })
  .partial();

const train = recipe.omit({ preset: true }).extend({ lora: recipe.optional(), fft: recipe.optional() });

const decoding = z
  .strictObject({
    numBeams: count,
    maxNewTokens: count,
    noRepeatNgramSize: z.int().nonnegative(),
    repetitionPenalty: z.number().min(0.01),
    temperature: z.number().nonnegative(),
    topK: z.int().nonnegative(),
    topP: z.number().min(0).max(1),
    lengthPenalty: z.number(),
  })
  .partial();

const generate = decoding.extend({
  lora: decoding.optional(),
  fft: decoding.optional(),
  /** Prompts decoded together; default 16. */
  batchSize: count.optional(),
  /** Of sampling; default 0. */
  seed: seed.optional(),
  dtype: trainSettingsSchema.shape.dtype.optional(),
  device: trainSettingsSchema.shape.device.optional(),
  skipBadRecords: z.boolean().optional(),
});

const judge = judgeSettingsSchema
  .omit({ responses: true, prompts: true, language: true, system: true, out: true, journal: true })
  .partial()
  .required({ model: true });

const score = z
  .strictObject({
    lidModel: text,
    candidates: z.enum(["all", "expected"]),
    /** Default: the grid's languages. */
    seenLanguages: listOf(code),
    compare: z.enum(["conditions", "all", "none"]),
    resamples: z.int().min(100).max(1_000_000),
    seed,
    allowIncomplete: z.boolean(),
  })
  .partial();

/** Reference answers, for a score that needs no judge. */
const likelihood = z
  .strictObject({
    /** Of each language, from the beginning; default 50. */
    records: count,
    /** Folder of `alpaca.<lang>.json` in the test languages; default: what `validation: shared` holds out, in the grid's languages. */
    dataDir: text,
  })
  .partial();

const figures = z.strictObject({ familySize: parameters, png: z.boolean() }).partial();

export const gridSchema = z
  .strictObject({
    /** Folder of the experiment: its record, and its results. */
    out: text,
    /** Folder of the jobs, which several grids may share: what is equal in them is done once. Default `<out>/jobs`. */
    jobsDir: text.optional(),
    models,
    /** Folder of the models that say no path; default "models". */
    modelsDir: text.optional(),
    methods: listOf(z.enum(["lora", "fft"])),
    conditions: listOf(z.enum(conditions)),
    /** That models are tuned on. */
    languages: listOf(code),
    seeds: listOf(trainSettingsSchema.shape.seed).optional(),
    /** Folder of `alpaca.<lang>.json`. */
    dataDir: text,
    /** Folder of `test_<lang>.jsonl`. */
    promptsDir: text,
    /** That models are asked in. */
    testLanguages: listOf(code),
    /** `own`: each run holds records of its own data out; `shared`: whole seed records, in all languages, before mixing. Default own. */
    validation: z.enum(["own", "shared"]).optional(),
    mix: mix.partial().optional(),
    train: train.optional(),
    generate: generate.optional(),
    /** null or absent: no judge is asked, and scores are of language match alone. */
    judge: judge.nullable().optional(),
    /** Absent: no references are asked about. */
    likelihood: likelihood.optional(),
    score: score.optional(),
    figures: figures.optional(),
  })
  .superRefine(({ conditions, languages, testLanguages, train, likelihood, validation }, context) => {
    const issue = (path: (string | number)[], message: string): void => context.addIssue({ code: "custom", path, message });
    if (conditions.includes("english") && !languages.includes("en"))
      issue(["conditions", conditions.indexOf("english")], "english needs en among the languages");
    if (conditions.includes("monolingual") && !testLanguages.some((language) => languages.includes(language)))
      issue(["testLanguages"], "monolingual models answer in their own language only, and none of these is among the languages");
    if (likelihood !== undefined && likelihood.dataDir === undefined && validation !== "shared")
      issue(["likelihood"], "references are wanted: name their dataDir, or hold some out with validation: shared");
    for (const method of ["lora", "fft"] as const) {
      const preset = train?.[method]?.preset;
      if (preset !== undefined && preset !== `paper-${method}`) issue(["train", method, "preset"], `${preset} is no preset of ${method}`);
    }
  });

/** As a grid file has it. */
export type GridFile = Readonly<z.infer<typeof gridSchema>>;

const namesAt: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(gridSchema.shape),
  mix: Object.keys(mix.shape),
  train: Object.keys(train.shape),
  "train.lora": Object.keys(recipe.shape),
  "train.fft": Object.keys(recipe.shape),
  generate: Object.keys(generate.shape),
  "generate.lora": Object.keys(decoding.shape),
  "generate.fft": Object.keys(decoding.shape),
  judge: Object.keys(judge.shape),
  likelihood: Object.keys(likelihood.shape),
  score: Object.keys(score.shape),
  figures: Object.keys(figures.shape),
};

function namesIn(path: readonly PropertyKey[]): readonly string[] {
  if (path[0] === "models") return Object.keys(model.shape);
  return namesAt[path.join(".")] ?? [];
}

/** Checks a grid file's content; names that do not exist come with the nearest one that does. */
export function checkGrid(input: unknown): CheckedSettings<GridFile> {
  return checkSettings<GridFile>(gridSchema, namesIn, input);
}
