export { FastTextModel, type LanguageScore } from "./fasttext-model.js";
export { type Candidates, type Identification, type IdentifyOptions, identifyLanguage, undecided } from "./identify.js";
export { codeOfLabel, comparableCode } from "./labels.js";
export { canonicalCode, languageName, parseLanguageCode, studyLanguages } from "./language-codes.js";
