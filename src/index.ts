/** The public surface of polypaca. */
export { type Checkpoint, openCheckpoint } from "./checkpoint/hf-folder.js";
export { type Example, packStep, prepareExamples, readAlpaca } from "./data/index.js";
export { type ErrorCode, isUsageError, PolypacaError } from "./errors.js";
export type { DecoderSpec } from "./families/decoder-spec.js";
export { decoderSpecFromConfig } from "./families/index.js";
export type { Batch, ComputeDType, Generated, GenerateOptions, LoraOptions, MemoryPlan, StepResult } from "./native/addon-types.js";
export { type AddLoraOptions, type LoadOptions, Model } from "./native/model.js";
export { Trainer, type TrainerSettings } from "./native/trainer.js";
export { loadTokenizer, type Tokenizer, TokenStream } from "./tokenizer/index.js";
export { resolveSettings } from "./train/resolve-settings.js";
export { train } from "./train/train.js";
