/** A run's data: read, tokenised, split, and cut into steps. */
import type { Checkpoint } from "../checkpoint/hf-folder.js";
import {
  alpacaTemplates,
  describeBadRecord,
  type Example,
  epochOrder,
  type LanguageCounts,
  type PreparedData,
  packStep,
  prepareExamples,
  readTemplate,
  splitValidation,
} from "../data/index.js";
import type { Batch } from "../native/addon-types.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/index.js";
import { listRecords, type RecordOrigin, type StepBatch } from "./loop.js";
import type { TrainEnvironment } from "./session.js";
import type { TrainSettings } from "./settings.js";
import { locateStep, type StepPlan } from "./step-plan.js";
import { type StoredTemplate, toStoredTemplate } from "./template-file.js";

export interface TrainingData {
  readonly training: readonly Example[];
  readonly validation: readonly Example[];
  /** Records of `--data` left out because nothing in them would be trained on. */
  readonly withoutTarget: readonly RecordOrigin[];
  /** Of `--data`, before the split. */
  readonly languages: ReadonlyMap<string, LanguageCounts>;
  readonly tokenizer: Tokenizer;
  readonly template: StoredTemplate;
  /** The packed examples of a step, counted from 0. */
  stepBatch(plan: StepPlan, step: number, microBatchTokens: number): StepBatch;
  /** Empty without validation data. */
  validationBatches(microBatchTokens: number): readonly Batch[];
}

/**
 * Reads and tokenises `settings.data` and the validation data; what the user should know of them goes to `environment.note`.
 *
 * @throws PolypacaError as `loadTokenizer`, `readTemplate`, `prepareExamples` and `splitValidation` do
 */
export async function prepareData(settings: TrainSettings, checkpoint: Checkpoint, environment: TrainEnvironment): Promise<TrainingData> {
  const tokenizer = await loadTokenizer(checkpoint.dir);
  for (const line of tokenizer.notes) environment.note(line);
  const template = settings.template === null ? alpacaTemplates[settings.method] : await readTemplate(settings.template);
  const { cutoff, trainOn, skipBadRecords, maxEmptyShare, validationFile, validationSize, seed } = settings;
  const prepare = async (files: readonly string[]): Promise<PreparedData> => {
    const { cacheDir = null, signal } = environment;
    const options = { tokenizer, template, cutoff, trainOn, skipBadRecords, maxEmptyShare, cacheDir };
    const prepared = await prepareExamples(files, options, signal && { signal });
    for (const line of notesOn(prepared)) environment.note(line);
    return prepared;
  };
  const all = await prepare(settings.data);
  const { training, validation } =
    validationFile === null
      ? splitValidation(all.examples, validationSize, seed)
      : { training: all.examples, validation: (await prepare([validationFile])).examples };
  const packing = { packing: settings.packing === "on" };
  const orderOf = rememberLast((epoch) => epochOrder(training.length, seed, epoch));
  return {
    ...{ training, validation, tokenizer, template: toStoredTemplate(template), languages: all.languages },
    withoutTarget: all.withoutTarget.map(originOf),
    stepBatch: (plan, step, microBatchTokens) => {
      const { epoch, start, end } = locateStep(plan, step);
      const examples = Array.from(orderOf(epoch).subarray(start, end), (index) => training[index]!);
      return { ...packStep(examples, microBatchTokens, packing), records: examples.map(originOf) };
    },
    validationBatches: (microBatchTokens) => packStep(validation, microBatchTokens, packing).microBatches,
  };
}

/** The order of an epoch serves all of its steps. */
function rememberLast<T>(compute: (key: number) => T): (key: number) => T {
  let last: { readonly key: number; readonly value: T } | undefined;
  return (key) => {
    if (last?.key !== key) last = { key, value: compute(key) };
    return last.value;
  };
}

function originOf({ place }: Example): RecordOrigin {
  return { file: place.file, line: place.line };
}

function notesOn({ notes, bad, withoutTarget, languages }: PreparedData): string[] {
  const lines = [...notes, ...bad.map((record) => `left out: ${describeBadRecord(record)}`)];
  if (withoutTarget.length > 0)
    lines.push(`left out, since nothing in them would be trained on: ${listRecords(withoutTarget.map(originOf))}`);
  for (const [language, { examples, truncated }] of languages) {
    const share = ((100 * truncated) / examples).toFixed(1);
    if (truncated > 0) lines.push(`${language}: ${truncated} of ${examples} examples are cut at the cutoff (${share}%)`);
  }
  return lines;
}
