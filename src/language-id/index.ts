export { type LanguageClassifier, type LanguageScore, openClassifier } from "./classifier.js";
export { bundledModelFile, FastTextModel } from "./fasttext-model.js";
export {
  type Candidates,
  type Identification,
  type IdentifyOptions,
  identifyLanguage,
  identifyLanguages,
  undecided,
} from "./identify.js";
export { codeOfLabel, comparableCode } from "./labels.js";
export { canonicalCode, languageName, parseLanguageCode, studyLanguages } from "./language-codes.js";
