/** What tokens and FLOPs are counted by: tokenizer, template, cutoff, model and method. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readModelConfig } from "../checkpoint/hf-folder.js";
import { alpacaTemplates, type PromptTemplate, readTemplate, renderPrompt } from "../data/template.js";
import { PolypacaError } from "../errors.js";
import { decoderSpecFromConfig } from "../families/index.js";
import { studyLoraTargets } from "../families/parameters.js";
import { type TrainingWork, trainingWork } from "../families/work.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/index.js";
import { trainPresets } from "../train/presets.js";
import type { Counting } from "./language-data.js";
import type { MixSettings } from "./mix-settings.js";

export type CountingSettings = Pick<
  MixSettings,
  "tokenizer" | "model" | "method" | "cutoff" | "trainOn" | "template" | "loraRank" | "loraTargets"
>;

export interface CostBasis {
  /** null: no tokens are counted. */
  readonly counting: Counting | null;
  /** null: no FLOPs are computed. */
  readonly work: TrainingWork | null;
  /** Tokens that a record has before any text of its own; null: no tokens are counted. */
  readonly templateTokens: TemplateTokens | null;
  /** For the manifest. */
  readonly recorded: { readonly tokens: object | null; readonly model: object | null };
  readonly notes: readonly string[];
}

/** The template's own text, BOS and EOS included, by the form it has for records with and without an input. */
export interface TemplateTokens {
  readonly withInput: number;
  readonly withoutInput: number;
}

/**
 * @throws PolypacaError as `loadTokenizer`, `readModelConfig`, `decoderSpecFromConfig`, `readTemplate`; `INVALID_ARGUMENT` for LoRA
 *   targets that the model lacks
 */
export async function openCostBasis(settings: CountingSettings): Promise<CostBasis> {
  const { model } = settings;
  const folder = settings.tokenizer ?? model;
  if (folder === undefined) return { counting: null, work: null, templateTokens: null, recorded: { tokens: null, model: null }, notes: [] };
  const { method = "lora" } = settings;
  const preset = trainPresets[`paper-${method}`].values;
  const { cutoff = preset.cutoff, trainOn = preset.trainOn } = settings;
  if (!(Number.isInteger(cutoff) && cutoff >= 2))
    throw new PolypacaError("USAGE", `--cutoff ${cutoff}: expected a whole number, at least 2.`);
  const tokenizer = await loadTokenizer(folder, { needsConfig: false });
  const template = settings.template === undefined ? alpacaTemplates[method] : await readTemplate(settings.template);
  const { contentHash } = tokenizer;
  const counting: Counting = { tokenizer: folder, contentHash, template, cutoff, trainOn };
  const tokens = { tokenizer: contentHash, method, cutoff, trainOn, template: sha256(JSON.stringify(template)) };
  const templateTokens = templateTokensOf(template, tokenizer);
  if (model === undefined) return { counting, work: null, templateTokens, recorded: { tokens, model: null }, notes: tokenizer.notes };
  const configFile = join(model, "config.json");
  const spec = decoderSpecFromConfig(await readModelConfig(model), configFile);
  const { loraRank: rank = preset.loraRank, loraTargets: targets = studyLoraTargets(spec) } = settings;
  const notes = [...tokenizer.notes];
  if (tokenizer.vocabSize > spec.vocabSize)
    notes.push(
      `${folder}: the tokenizer has ${tokenizer.vocabSize} ids, the model in ${model} ${spec.vocabSize}: they do not belong together.`,
    );
  return {
    counting,
    work: trainingWork(spec, { method, rank, targets }),
    templateTokens,
    recorded: {
      tokens,
      model: {
        ...{ modelType: spec.modelType, config: sha256(await readFile(configFile)), method },
        ...(method === "lora" ? { loraRank: rank, loraTargets: targets } : {}),
      },
    },
    notes,
  };
}

function templateTokensOf(template: PromptTemplate, { encode, addsBos, eosTokenId }: Tokenizer): TemplateTokens {
  const around = Number(addsBos) + Number(eosTokenId !== null);
  const empty = (form: string): number => encode(renderPrompt({ ...template, promptNoInput: form }, { instruction: "" })).length + around;
  return { withInput: empty(template.promptInput), withoutInput: empty(template.promptNoInput) };
}

function sha256(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
