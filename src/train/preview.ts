/** `train --dry-run`: what a run would train on, and what it would need. */
import type { LanguageCounts } from "../data/index.js";
import type { Batch, MemoryPlan } from "../native/addon-types.js";
import { type Tokenizer, tokenText } from "../tokenizer/index.js";
import type { RecordOrigin } from "./loop.js";
import type { RunContext } from "./run-context.js";
import type { StepPlan } from "./step-plan.js";

export interface TrainPreview {
  readonly steps: number;
  readonly stepsPerEpoch: number;
  readonly warmupSteps: number;
  readonly trainingExamples: number;
  readonly validationExamples: number;
  /** Left out: nothing in them would be trained on. */
  readonly withoutTarget: readonly RecordOrigin[];
  /** Of `--data`, before the split. */
  readonly languages: Readonly<Record<string, LanguageCounts>>;
  /** Of the first epoch. */
  readonly tokens: number;
  readonly targetTokens: number;
  readonly microBatches: number;
  /** Tokens that micro-batches of the same size would compute with padding instead of packing. */
  readonly paddedTokens: number;
  readonly microBatchTokens: number;
  readonly memory: MemoryPlan;
  readonly memoryAvailable: number;
  readonly samples: readonly TokenSample[];
}

/** An example as the model sees it; label -100 is not trained on. */
export interface TokenSample {
  readonly inputIds: readonly number[];
  readonly labels: readonly number[];
  /** As text; a byte that is only a part of a character as "<0xE4>". */
  readonly tokens: readonly string[];
}

const sampleCount = 2;

export function previewRun(context: RunContext): { readonly preview: TrainPreview; readonly text: string } {
  const { data, plan, memory, addon, device, warmupSteps } = context;
  const { microBatchTokens } = memory;
  const batchOf = (step: number): readonly Batch[] => data.stepBatch(plan, step, microBatchTokens).microBatches;
  const preview: TrainPreview = {
    ...{ steps: plan.steps, stepsPerEpoch: plan.stepsPerEpoch, warmupSteps },
    ...{ trainingExamples: data.training.length, validationExamples: data.validation.length },
    ...{ withoutTarget: data.withoutTarget, languages: Object.fromEntries(data.languages) },
    ...countEpoch(plan, batchOf, microBatchTokens),
    ...{ microBatchTokens, memory: memory.plan, memoryAvailable: addon.memoryUsage(device).available },
    samples: samplesOf(batchOf(0)[0], data.tokenizer),
  };
  return { preview, text: describe(preview) };
}

function countEpoch(
  plan: StepPlan,
  batchOf: (step: number) => readonly Batch[],
  capacity: number,
): Pick<TrainPreview, "tokens" | "targetTokens" | "microBatches" | "paddedTokens"> {
  const counts = { tokens: 0, targetTokens: 0, microBatches: 0, paddedTokens: 0 };
  for (let step = 0; step < Math.min(plan.steps, plan.stepsPerEpoch); step++) {
    const batches = batchOf(step);
    const lengths = batches.flatMap(({ sequenceLengths }) => [...sequenceLengths]);
    counts.tokens += lengths.reduce((sum, length) => sum + length, 0);
    counts.microBatches += batches.length;
    counts.paddedTokens += paddedTokens(lengths, capacity);
    for (const batch of batches) counts.targetTokens += countTargets(batch);
  }
  return counts;
}

/** A sequence's first label is no target: nothing predicts it. */
function countTargets({ labels, sequenceLengths }: Batch): number {
  let targets = 0;
  let start = 0;
  for (const length of sequenceLengths) {
    for (let t = start + 1; t < start + length; t++) if (labels[t] !== -100) targets++;
    start += length;
  }
  return targets;
}

/** Tokens of the same examples in rows padded to the longest of their micro-batch, each micro-batch at most `capacity` tokens. */
export function paddedTokens(lengths: readonly number[], capacity: number): number {
  let total = 0;
  let rows = 0;
  let longest = 0;
  for (const length of lengths) {
    const grown = Math.max(longest, length);
    if (rows > 0 && (rows + 1) * grown > capacity) {
      total += rows * longest;
      rows = 0;
      longest = 0;
    }
    rows++;
    longest = Math.max(longest, length);
  }
  return total + rows * longest;
}

function samplesOf(batch: Batch | undefined, tokenizer: Tokenizer): TokenSample[] {
  const samples: TokenSample[] = [];
  let start = 0;
  for (const length of batch?.sequenceLengths.subarray(0, sampleCount) ?? []) {
    const inputIds = [...batch!.inputIds.subarray(start, start + length)];
    const labels = [...batch!.labels.subarray(start, start + length)];
    samples.push({ inputIds, labels, tokens: inputIds.map((id) => tokenText(tokenizer, id)) });
    start += length;
  }
  return samples;
}

function describe(preview: TrainPreview): string {
  const { memory } = preview;
  const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20).toLocaleString("en-US")} MiB`;
  const saved = 100 * (1 - preview.tokens / preview.paddedTokens);
  const languages = Object.entries(preview.languages).map(([code, { examples, truncated }]) => {
    const share = ((100 * truncated) / examples).toFixed(1);
    return `  ${code}: ${examples} examples, ${truncated} cut by the cutoff (${share}%)`;
  });
  return [
    `${preview.trainingExamples} training examples, ${preview.validationExamples} validation examples`,
    ...languages,
    `${preview.withoutTarget.length} examples without a target are left out`,
    `${preview.steps} steps (${preview.stepsPerEpoch} per epoch), ${preview.warmupSteps} of warm-up`,
    `first epoch: ${preview.tokens} tokens, ${preview.targetTokens} of them targets, in ${preview.microBatches} micro-batches of at most ${preview.microBatchTokens}`,
    `padding saved: ${saved.toFixed(1)}% of the ${preview.paddedTokens} tokens that padded micro-batches would take`,
    `memory: ${mib(memory.total)} (weights ${mib(memory.weights)}, gradients ${mib(memory.gradients)}, optimizer ${mib(memory.optimizer)}, ` +
      `activations ${mib(memory.activations)}, head ${mib(memory.head)}, scratch ${mib(memory.scratch)}) of ${mib(preview.memoryAvailable)} available`,
    ...preview.samples.flatMap(describeSample),
  ].join("\n");
}

function describeSample({ inputIds, labels, tokens }: TokenSample, index: number): string[] {
  const rows = tokens.map(
    (token, t) => `  ${labels[t] === -100 ? "masked " : "trained"} ${String(inputIds[t]).padStart(7)} ${JSON.stringify(token)}`,
  );
  return ["", `example ${index + 1} of step 1: ${inputIds.length} tokens`, ...rows];
}
