/**
 * Alpaca data to packed micro-batches: `prepareExamples` reads and tokenises, `splitValidation` holds out, `epochOrder` shuffles,
 * `packStep` packs the examples of a step. `readPrompts`, `renderPrompt` and `extractResponse` serve generation.
 */
export { type AlpacaFile, type AlpacaRecord, parseAlpaca, type ReadOptions, readAlpaca, undeterminedLanguage } from "./alpaca.js";
export { type BadRecord, describeBadRecord, type RecordPlace } from "./json-records.js";
export { epochOrder } from "./order.js";
export { type PackedBatch, type PackedStep, packStep } from "./pack.js";
export { type PreparedData, type PrepareSettings, prepareExamples } from "./prepare.js";
export { readPrompts, type TestPrompt, type TestPrompts } from "./prompts.js";
export { type Split, splitValidation } from "./split.js";
export { alpacaTemplates, extractResponse, type PromptParts, type PromptTemplate, readTemplate, renderPrompt } from "./template.js";
export {
  type Example,
  ignoredLabel,
  type LanguageCounts,
  type SiftedExamples,
  siftExamples,
  type TokenizeSettings,
  type TrainOn,
  tokenizeRecord,
  tokenizeRecords,
} from "./tokenize.js";
