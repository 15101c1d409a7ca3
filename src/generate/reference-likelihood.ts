/**
 * How likely a model finds reference answers: a score that needs no judge. Of each reference the mean log-probability of its tokens given the
 * prompt (length-normalised, so that long answers do not count as worse ones), and of a language the mean over its references.
 */
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { readAlpaca, tokenizeRecord } from "../data/index.js";
import { PolypacaError } from "../errors.js";
import type { ComputeDType } from "../native/addon-types.js";
import { Model } from "../native/model.js";
import { loadTokenizer } from "../tokenizer/index.js";
import { describeSystem, templateFor } from "./describe-system.js";
import type { GenerateEnvironment } from "./generate.js";

export interface LikelihoodSettings {
  readonly model: string;
  /** PEFT adapter; null: the model alone. */
  readonly adapter: string | null;
  /** Alpaca data: prompts with their reference answers. */
  readonly references: readonly { readonly language: string; readonly file: string }[];
  /** At most so many of each file, from its beginning. */
  readonly records: number;
  /** Longer references are cut, as in training. */
  readonly cutoff: number;
  /** JSONL of {@link ReferenceRow}. */
  readonly out: string;
  readonly device: string;
  readonly dtype: ComputeDType | null;
}

export interface ReferenceRow {
  readonly id: string;
  readonly language: string;
  /** Of the answer, EOS included. */
  readonly tokens: number;
  /** Mean over these tokens, in nats: 0 is certainty. */
  readonly logLikelihood: number;
}

export interface LikelihoodSummary {
  readonly out: string;
  readonly references: number;
}

/**
 * Writes a row for each reference. One reference is computed at a time, so that nothing depends on how many there are.
 *
 * @throws PolypacaError as `readAlpaca` and `Model.load` do; `BAD_DATA` where no reference has an answer within the cutoff; `CANCELLED`
 */
export async function referenceLikelihood(settings: LikelihoodSettings, environment: GenerateEnvironment): Promise<LikelihoodSummary> {
  const { model: dir, adapter, cutoff, out } = settings;
  const system = await describeSystem(dir, adapter);
  const template = await templateFor(system, { model: dir, adapter }, null);
  const tokenizer = await loadTokenizer(dir);
  const records = (await Promise.all(settings.references.map((each) => readReferences(each, settings.records)))).flat();
  const examples = records.map(({ id, record }) => ({
    id,
    example: tokenizeRecord(record, tokenizer, { template, cutoff, trainOn: "response" }),
  }));
  const usable = examples.filter(({ example }) => example.targetTokens > 0);
  if (usable.length === 0)
    throw new PolypacaError("BAD_DATA", `no reference has an answer within ${cutoff} tokens: nothing can be said of them.`);
  const model = await loadModel(settings);
  const progress = environment.openProgress({ label: "likelihood", start: 0, total: usable.length });
  try {
    const rows: ReferenceRow[] = [];
    for (const { id, example } of usable) {
      if (environment.signal?.aborted) throw new PolypacaError("CANCELLED", "stopped between references.");
      const { inputIds, labels, language } = example;
      const { loss, targetTokens } = await model.loss({ inputIds, labels, sequenceLengths: Int32Array.of(inputIds.length) });
      rows.push({ id, language, tokens: targetTokens, logLikelihood: -loss });
      progress.update(rows.length, language);
    }
    await writeFileAtomic(
      out,
      rows.map((row) => `${JSON.stringify(row)}\n`),
    );
    return { out, references: rows.length };
  } finally {
    progress.stop();
    await model.dispose();
  }
}

async function readReferences({ language, file }: LikelihoodSettings["references"][number], limit: number) {
  const { records } = await readAlpaca(file, { language });
  return records.slice(0, limit).map((record, index) => ({ id: record.id ?? String(index), record }));
}

async function loadModel({ model: dir, adapter, device, dtype }: LikelihoodSettings): Promise<Model> {
  const model = await Model.load(dir, { device, ...(dtype && { dtype }) });
  try {
    if (adapter !== null) await model.loadAdapter(adapter);
    return model;
  } catch (cause) {
    await model.dispose();
    throw cause;
  }
}
