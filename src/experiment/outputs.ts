/** In the folder of records held out. */
export const heldOutFiles = {
  data: (language: string) => `data/alpaca.${language}.json`,
  validation: (of: string) => `validation/${of}.jsonl`,
} as const;

/** What jobs leave in their output folders: the names that other jobs, the results' links and the report find it by. */
export const outputs = {
  split: {
    folder: "split",
    data: (language: string) => `split/${heldOutFiles.data(language)}`,
    validation: (of: string) => `split/${heldOutFiles.validation(of)}`,
  },
  mix: { folder: "mix", training: (name: string) => `mix/${name}.jsonl` },
  train: { run: "run" },
  generate: { responses: "responses.jsonl" },
  likelihood: { rows: "likelihood.jsonl" },
  judge: { responses: "responses.jsonl", judgements: "judgements.jsonl" },
  score: { responses: "responses", judgements: "judgements", scores: "scores", report: "scores/scores.json" },
  figures: { figures: "figures", catalog: "models.yaml" },
} as const;
