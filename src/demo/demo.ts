/**
 * The study in miniature: on the bundled sample (9 languages) a tiny BLOOM-shaped base is trained from nothing on the
 * sample's plain text, then tuned on its instructions with LoRA and with full-parameter fine-tuning; a few questions that
 * neither has seen are answered. Offline, on the CPU.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { type GenerateEnvironment, generate } from "../generate/generate.js";
import { initModel } from "../models/init-model.js";
import { loadAddon, packageRoot } from "../native/load.js";
import { resolveDType } from "../native/model.js";
import { resolveSettings } from "../train/resolve-settings.js";
import type { TrainEnvironment, TrainSummary } from "../train/session.js";
import type { SomeSettings } from "../train/settings.js";
import { train } from "../train/train.js";

export interface DemoSettings {
  /** Folder of everything the demo makes; the base in it is used again where nothing it depends on has changed. */
  readonly out: string;
  readonly seed: number;
}

export interface DemoAnswer {
  readonly language: string;
  readonly prompt: string;
  readonly lora: string;
  readonly fft: string;
}

/** `demo --json`. */
export interface DemoResult {
  readonly out: string;
  /** false: the base of an earlier demo was used. */
  readonly baseTrained: boolean;
  readonly base: TrainSummary | null;
  readonly lora: TrainSummary;
  readonly fft: TrainSummary;
  readonly answers: readonly DemoAnswer[];
}

interface SampleRecord {
  readonly id: string;
  readonly instruction: string;
  readonly input: string;
  readonly output: string;
}

/** The shape of the base, and how long each part is trained: about two minutes on two cores without bf16 instructions. */
const shape = { arch: "bloom", hidden: 192, layers: 4, heads: 6 } as const;
const baseSettings: SomeSettings = {
  method: "fft",
  maxSteps: 240,
  batchSize: 24,
  learningRate: 2e-3,
  warmupSteps: 20,
  trainOn: "prompt+response",
  cutoff: 256,
  evalEvery: 100,
};
const tuneSettings: SomeSettings = { batchSize: 24, cutoff: 256, warmupSteps: 10, trainOn: "response", evalEvery: 20 };
const loraSettings: SomeSettings = { ...tuneSettings, method: "lora", maxSteps: 100, learningRate: 5e-3 };
const fftSettings: SomeSettings = { ...tuneSettings, method: "fft", maxSteps: 100, learningRate: 5e-4 };

/** Records of every language that are kept for validation; their instructions are the questions at the end. */
const heldOut = 6;
const askedLanguages = ["en", "de", "zh"];

/** Plain text for the base: the record's parts one below the other, no headings. */
const plainTemplate = { prompt_input: "{instruction}\n{input}\n", prompt_no_input: "{instruction}\n", response_split: "\n" };

/**
 * Runs the demo in `settings.out`.
 *
 * @throws PolypacaError `CANCELLED` (what is done is kept), and as training and generation do
 */
export async function runDemo(settings: DemoSettings, environment: TrainEnvironment & GenerateEnvironment): Promise<DemoResult> {
  const { out, seed } = settings;
  await mkdir(out, { recursive: true });
  const files = await writeData(out);
  const base = await prepareBase(settings, files, environment);
  const tune = async (method: "lora" | "fft"): Promise<TrainSummary> => {
    environment.note(`\n${method === "lora" ? "LoRA" : "Full-parameter fine-tuning"} on the sample's instructions`);
    const run = join(out, method);
    await rm(run, { recursive: true, force: true });
    const from = { model: base.checkpoint, data: [files.training], validationFile: files.validation, out: run, seed };
    return trained({ ...(method === "lora" ? loraSettings : fftSettings), ...from }, environment);
  };
  const lora = await tune("lora");
  const fft = await tune("fft");
  environment.note("\nAnswers to questions that neither has seen");
  const answers = await answer(out, base.checkpoint, files.questions, environment);
  return { out, baseTrained: base.summary !== null, base: base.summary, lora, fft, answers };
}

interface DemoFiles {
  readonly training: string;
  readonly validation: string;
  readonly questions: readonly string[];
  readonly template: string;
}

/** Splits the sample by record, so that no language shows what another one is asked. */
async function writeData(out: string): Promise<DemoFiles> {
  const sample = sampleFolder();
  const names = (await readdir(sample)).filter((name) => /^alpaca\.[a-z]+\.json$/.test(name)).sort();
  const training: string[] = [];
  const validation: string[] = [];
  const questions: string[] = [];
  for (const name of names) {
    const language = name.split(".")[1]!;
    const records = JSON.parse(await readFile(join(sample, name), "utf8")) as SampleRecord[];
    records.forEach((record, index) => {
      (index < records.length - heldOut ? training : validation).push(JSON.stringify({ ...record, language }));
    });
    if (!askedLanguages.includes(language)) continue;
    const asked = records
      .slice(-heldOut)
      .filter(({ input }) => input === "")
      .slice(0, 1);
    const file = join(out, `test_${language}.jsonl`);
    await writeFileAtomic(file, asked.map(({ id, instruction }) => `${JSON.stringify({ id, prompt: instruction })}\n`).join(""));
    questions.push(file);
  }
  const files = {
    training: join(out, "training.jsonl"),
    validation: join(out, "validation.jsonl"),
    template: join(out, "plain-template.json"),
    questions,
  };
  await writeFileAtomic(files.training, `${training.join("\n")}\n`);
  await writeFileAtomic(files.validation, `${validation.join("\n")}\n`);
  await writeFileAtomic(files.template, `${JSON.stringify(plainTemplate, null, 2)}\n`);
  return files;
}

function sampleFolder(): string {
  return join(packageRoot(), "experiments/sample");
}

/** The base depends on its data, its settings, the tokenizer and the machine's arithmetic: all of that is in the folder's name. */
async function prepareBase(
  { out, seed }: DemoSettings,
  files: DemoFiles,
  environment: TrainEnvironment,
): Promise<{ readonly checkpoint: string; readonly summary: TrainSummary | null }> {
  const addon = loadAddon();
  const tokenizer = join(sampleFolder(), "tokenizer.json");
  const key = createHash("sha256");
  for (const file of [files.training, files.template, tokenizer]) key.update(await readFile(file));
  key.update(JSON.stringify([shape, baseSettings, seed, addon.version, resolveDType(addon, undefined)]));
  const folder = join(out, `base-${key.digest("hex").slice(0, 12)}`);
  const run = join(folder, "run");
  const checkpoint = join(run, "last");
  const done = join(folder, "done");
  if (existsSync(done)) {
    environment.note(`Base model: ${checkpoint}, trained by an earlier demo`);
    return { checkpoint, summary: null };
  }
  environment.note(`Base model: BLOOM-shaped, ${shape.layers} layers of ${shape.hidden}, trained on the sample's text in 9 languages`);
  const model = join(folder, "initial");
  if (!existsSync(model)) {
    await initModel({ ...shape, preset: null, tokenizer, seed, dtype: "fp32", device: "cpu", out: model });
  }
  const given = { model, data: [files.training], validationFile: files.validation, template: files.template, out: run, seed, resume: true };
  const summary = await trained({ ...baseSettings, ...given }, environment);
  await writeFileAtomic(done, "");
  return { checkpoint, summary };
}

async function trained(given: SomeSettings, environment: TrainEnvironment): Promise<TrainSummary> {
  const result = await train(resolveSettings({}, { saveEvery: 1_000_000, saveTotalLimit: 1, ...given }), environment);
  if (result.kind !== "trained") throw new PolypacaError("INTERNAL", "the demo's training ended as a preview");
  return result.summary;
}

async function answer(out: string, base: string, questions: readonly string[], environment: GenerateEnvironment): Promise<DemoAnswer[]> {
  const responses: Record<"lora" | "fft", readonly { readonly language: string; readonly prompt: string; readonly response: string }[]> = {
    lora: [],
    fft: [],
  };
  for (const method of ["lora", "fft"] as const) {
    const file = join(out, `responses.${method}.jsonl`);
    await rm(file, { force: true });
    const best = join(out, method, "best");
    await generate(
      {
        ...{ model: method === "lora" ? base : best, adapter: method === "lora" ? best : null, prompts: questions, out: file },
        ...{ preset: null, decoding: { maxNewTokens: 48 }, batchSize: 8, language: null, template: null, system: method, condition: null },
        ...{ seed: 0, device: "cpu", dtype: null, skipBadRecords: false },
      },
      environment,
    );
    const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
    responses[method] = lines.map((line) => JSON.parse(line) as (typeof responses)["lora"][number]);
  }
  return responses.lora.map(({ language, prompt, response }) => {
    const other = responses.fft.find((row) => row.language === language && row.prompt === prompt);
    return { language, prompt, lora: response, fft: other?.response ?? "" };
  });
}
