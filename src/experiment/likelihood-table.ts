/** Reference likelihoods of systems, collected from their runs' jobs. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../checkpoint/atomic.js";
import { PolypacaError } from "../errors.js";
import { noValue, recordsAsCsv, type Table, tableAsText } from "../evaluate/table.js";
import type { ReferenceRow } from "../generate/reference-likelihood.js";

/** Of a system in a language. */
export interface LanguageLikelihood {
  readonly references: number;
  /** Mean over the references of each one's mean over its answer's tokens, in nats. */
  readonly logLikelihood: number;
}

export interface SystemLikelihood {
  readonly system: string;
  readonly languages: Readonly<Record<string, LanguageLikelihood>>;
}

/** @throws PolypacaError `NOT_FOUND`, `IO` */
export async function readLikelihoods(system: string, files: readonly string[]): Promise<SystemLikelihood> {
  const texts = await Promise.all(
    files.map((file) =>
      readFile(file, "utf8").catch((cause: unknown) => {
        throw PolypacaError.from(cause);
      }),
    ),
  );
  const rows = texts.flatMap((text) =>
    text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as ReferenceRow),
  );
  const languages = [...new Set(rows.map(({ language }) => language))].sort();
  return {
    system,
    languages: Object.fromEntries(
      languages.map((language) => {
        const values = rows.filter((row) => row.language === language).map(({ logLikelihood }) => logLikelihood);
        return [language, { references: values.length, logLikelihood: values.reduce((sum, value) => sum + value, 0) / values.length }];
      }),
    ),
  };
}

/** Writes likelihood.json, .txt and .csv beside the scores. */
export async function writeLikelihoods(systems: readonly SystemLikelihood[], folder: string): Promise<void> {
  const rows = systems.flatMap(({ system, languages }) =>
    Object.entries(languages).map(([language, { references, logLikelihood }]) => ({ system, language, references, logLikelihood })),
  );
  await writeFileAtomic(join(folder, "likelihood.json"), `${JSON.stringify({ systems }, null, 2)}\n`);
  await writeFileAtomic(join(folder, "likelihood.txt"), `${tableAsText(likelihoodTable(systems))}\n`);
  await writeFileAtomic(join(folder, "likelihood.csv"), `${recordsAsCsv(["system", "language", "references", "logLikelihood"], rows)}\n`);
}

function likelihoodTable(systems: readonly SystemLikelihood[]): Table {
  const languages = [...new Set(systems.flatMap((system) => Object.keys(system.languages)))].sort();
  return {
    name: "likelihood",
    caption: "Length-normalised log-likelihood of reference answers (nats per token; nearer to 0 is likelier)",
    notes: [
      "Mean over references of the mean over the answer's tokens. It needs no judge, and says nothing of how a model's own answers are.",
    ],
    columns: [{ title: "system", align: "left" }, ...languages.map((title) => ({ title }))],
    rows: systems.map((system) => [
      system.system,
      ...languages.map((language) => system.languages[language]?.logLikelihood.toFixed(3) ?? noValue),
    ]),
  };
}
