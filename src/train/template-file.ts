/** The prompt template as a checkpoint carries it: the study's JSON form, which `--template` reads too. */
import type { PromptTemplate } from "../data/index.js";

export const templateFileName = "prompt_template.json";

export interface StoredTemplate {
  readonly prompt_input: string;
  readonly prompt_no_input: string;
  readonly response_split: string;
}

export function toStoredTemplate({ promptInput, promptNoInput, responseSplit }: PromptTemplate): StoredTemplate {
  return { prompt_input: promptInput, prompt_no_input: promptNoInput, response_split: responseSplit };
}
