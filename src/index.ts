/** The public surface of polypaca. */
export { type BenchEnvironment, runBench } from "./bench/bench.js";
export type { BenchReport, CaseResult, MethodRatio } from "./bench/report.js";
export type { BenchSettings } from "./bench/settings.js";
export type { SweepReport, SweepSettings } from "./bench/sweep.js";
export type { Finding } from "./budget/alignment.js";
export type { BudgetUnit, Cost } from "./budget/costs.js";
export { type MixEnvironment, mix } from "./budget/mix.js";
export type { BudgetReport, FileReport, LanguageReport, MixResult, PartReport } from "./budget/mix-report.js";
export type { Condition, MixSettings, Sampling } from "./budget/mix-settings.js";
export { type Checkpoint, openCheckpoint } from "./checkpoint/hf-folder.js";
export { type Example, packStep, prepareExamples, readAlpaca } from "./data/index.js";
export { RequestFailure } from "./endpoint/request.js";
export { defaultRetryPolicy, type RetryPolicy } from "./endpoint/retry.js";
export { type ErrorCode, isUsageError, PolypacaError } from "./errors.js";
export { type AgreementInput, type AgreementReport, agreement, type JudgeAgreement, type LanguageAgreement } from "./evaluate/agreement.js";
export { type AgreementSettings, agreementAsCsv, agreementOfFiles, agreementTable } from "./evaluate/agreement-files.js";
export type { Comparison } from "./evaluate/compare-systems.js";
export { type JudgeEnvironment, type JudgeSummary, judge } from "./evaluate/judge/judge.js";
export { defaultJudgePromptFile, type JudgePrompt, parseJudgePrompt } from "./evaluate/judge/judge-prompt.js";
export { type ParsedAnswer, parseAnswer } from "./evaluate/judge/parse-answer.js";
export { type JudgeSettings, resolveJudgeSettings, type SomeJudgeSettings } from "./evaluate/judge/settings.js";
export type { JudgePanel, PanelAgreement } from "./evaluate/judge-panel.js";
export {
  type IdentifiedResponse,
  identifyResponses,
  type LanguageIdentifier,
  type LanguageRule,
  openLanguageIdentifier,
} from "./evaluate/language-match.js";
export { type HumanScore, readHumanScores } from "./evaluate/read-human-scores.js";
export { type Judgement, readJudgements } from "./evaluate/read-judgements.js";
export { type EvaluatedResponse, readResponses } from "./evaluate/read-responses.js";
export {
  type Comparing,
  type LanguageScore,
  type ScoreInput,
  type ScoreReport,
  type SystemScore,
  score,
} from "./evaluate/score.js";
export { type Scored, type ScoreSettings, scoreFiles, scoresAsLatex, scoresAsText, writeScoreFiles } from "./evaluate/score-files.js";
export { scoresAsCsv, scoreTables } from "./evaluate/score-tables.js";
export { studyTrainingLanguages } from "./evaluate/study-languages.js";
export { type Table, tableAsLatex, tableAsText } from "./evaluate/table.js";
export { type ExpandedGrid, expandGrid, type System } from "./experiment/expand-grid.js";
export { type Grid, type GridModel, type GridOverrides, readGrid } from "./experiment/grid.js";
export type { GridFile } from "./experiment/grid-settings.js";
export type { Job, JobKind } from "./experiment/job.js";
export type { JobState } from "./experiment/job-folder.js";
export { type JobStanding, readStandings, type Standing } from "./experiment/job-status.js";
export {
  type ExperimentJob,
  type ExperimentPlan,
  type ExperimentRecord,
  jobsFolderOf,
  planExperiment,
  prepareExperiment,
  readExperiment,
} from "./experiment/plan-experiment.js";
export { type ExperimentEnvironment, type ExperimentSummary, runExperiment } from "./experiment/run-experiment.js";
export { type JobEnvironment, type JobOutcome, runJob } from "./experiment/run-job.js";
export { type Lane, localLanes } from "./experiment/slots.js";
export type { DecoderSpec } from "./families/decoder-spec.js";
export { decoderSpecFromConfig } from "./families/index.js";
export { type FetchEnvironment, type FetchResult, fetchRepository } from "./fetch/fetch.js";
export { type FetchSettings, hubEndpoint, hubToken } from "./fetch/settings.js";
export { ContinuousBatch, type ContinuousBatchOptions, type DecodedToken, type SequenceOptions } from "./generate/continuous-batch.js";
export { type DecodingPresetName, type DecodingSettings, decodingPresets } from "./generate/decoding.js";
export { type GenerateEnvironment, type GenerateSettings, type GenerateSummary, generate } from "./generate/generate.js";
export {
  type LikelihoodSettings,
  type LikelihoodSummary,
  type ReferenceRow,
  referenceLikelihood,
} from "./generate/reference-likelihood.js";
export type { ResponseRow } from "./generate/responses.js";
export { type Diagnosis, diagnose } from "./inspect/diagnose.js";
export { type InspectOptions, inspectModel, type ModelReport } from "./inspect/inspect-model.js";
export { type InitModelResult, type InitModelSettings, initModel } from "./models/init-model.js";
export { type MergeResult, type MergeSettings, type MergeVerification, mergeAdapter } from "./models/merge.js";
export type {
  Batch,
  ComputeDType,
  Generated,
  GenerateOptions,
  LoraOptions,
  MachineInfo,
  MemoryPlan,
  StepResult,
} from "./native/addon-types.js";
export { type AddLoraOptions, type LoadOptions, Model } from "./native/model.js";
export { Trainer, type TrainerSettings } from "./native/trainer.js";
export type { BudgetEquality, ConditionBudget, Deviation } from "./plan/budget-equalities.js";
export { type PlanEnvironment, type PlanResult, plan, resolveHardware } from "./plan/plan.js";
export { type GridPlan, type Hardware, type JobPlan, type PlanJob, planGrid, type TrainRecipe } from "./plan/plan-grid.js";
export type { PlanSettings } from "./plan/plan-settings.js";
export { type MeasuredRates, type Rates, readMeasuredRates } from "./plan/rates.js";
export type { Figure, Panel, Point, Series } from "./report/figure.js";
export { type FigureEnvironment, type FigureSettings, type FiguresResult, figuresOfFiles } from "./report/figure-files.js";
export { type ModelCatalog, readModelCatalog } from "./report/model-catalog.js";
export { type FigurePlan, type PlanOptions, planFigures } from "./report/plan-figures.js";
export { readScores, type Scores } from "./report/read-scores.js";
export { type RunningServer, startServer } from "./serve/serve.js";
export type { NamedAdapter, ServeEnvironment, ServeLimits, ServeSettings } from "./serve/settings.js";
export { loadTokenizer, type Tokenizer, TokenStream } from "./tokenizer/index.js";
export { type PresetName, type TrainPreset, trainPresets } from "./train/presets.js";
export type { Progress } from "./train/progress.js";
export { resolveSettings } from "./train/resolve-settings.js";
export type { TrainEnvironment, TrainSummary } from "./train/session.js";
export type { SomeSettings, TrainSettings } from "./train/settings.js";
export { type TrainResult, train } from "./train/train.js";
export type { LanguageSummary } from "./translate/language-run.js";
export { type CommandSettings, commandProvider } from "./translate/providers/command.js";
export { type FilesSettings, filesProvider } from "./translate/providers/files.js";
export { type LibreTranslateSettings, libreTranslateProvider } from "./translate/providers/libretranslate.js";
export { type OpenAiSettings, openAiProvider } from "./translate/providers/openai.js";
export { type OpenAiBatchSettings, openAiBatchProvider } from "./translate/providers/openai-batch.js";
export type {
  BatchProvider,
  LiveProvider,
  TranslationProvider,
  TranslationSession,
} from "./translate/providers/provider.js";
export type { TranslateEnvironment, TranslateSettings } from "./translate/settings.js";
export { type TranslateSummary, translate } from "./translate/translate.js";
