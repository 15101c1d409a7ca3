/** The languages that the study tuned its models on; its other test languages are unseen. */
export const studyTrainingLanguages: readonly string[] = ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"];
