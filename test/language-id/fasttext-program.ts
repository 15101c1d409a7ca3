/** The `fasttext` program (Debian's package of that name): what other implementations are compared with, and a maker of models. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { sampleDir } from "../data/data-folder.js";

/** Why the program cannot be used here; null where it can. */
export const noFastTextProgram: string | null =
  spawnSync("fasttext", { stdio: "ignore" }).error === undefined
    ? null
    : 'the program "fasttext" is not installed (apt-get install fasttext)';

export interface ProgramPrediction {
  readonly label: string;
  readonly probability: number;
}

function run(args: readonly string[], input = ""): string {
  const { status, stdout, stderr } = spawnSync("fasttext", args, { input, encoding: "utf8", maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`fasttext ${args.join(" ")} ended with ${status}: ${stderr}`);
  return stdout;
}

/** Every label of every line, by falling probability (fastText adds 1e-5, so 1 can be exceeded). A threshold of -1 leaves none out. */
export function predictAll(model: string, lines: readonly string[]): ProgramPrediction[][] {
  const output = run(["predict-prob", model, "-", "-1", "-1"], lines.map((line) => `${line}\n`).join(""));
  return output
    .trimEnd()
    .split("\n")
    .map((line) => {
      const words = line.split(" ");
      return Array.from({ length: words.length / 2 }, (_, i) => ({
        label: words[2 * i]!,
        probability: Math.min(1, Number(words[2 * i + 1])),
      }));
    });
}

/** OpenLID's labels of the sample's languages. */
export const openLidLabels = {
  ...{ bg: "bul_Cyrl", cs: "ces_Latn", de: "deu_Latn", en: "eng_Latn", es: "spa_Latn", fi: "fin_Latn", fr: "fra_Latn", ru: "rus_Cyrl" },
  zh: "zho_Hans",
} as const;

/** All texts of the bundled sample, one line each, with their language. */
export async function sampleLines(): Promise<{ readonly language: keyof typeof openLidLabels; readonly line: string }[]> {
  const languages = Object.keys(openLidLabels) as (keyof typeof openLidLabels)[];
  const files = await Promise.all(languages.map((language) => readFile(join(sampleDir, `alpaca.${language}.json`), "utf8")));
  return files.flatMap((file, index) => {
    const records = JSON.parse(file) as readonly Readonly<Record<"instruction" | "input" | "output", string>>[];
    return records.flatMap(({ instruction, input, output }) =>
      [instruction, input, output]
        .map((text) => text.replaceAll(/\s+/g, " ").trim())
        .filter((line) => line !== "")
        .map((line) => ({ language: languages[index]!, line })),
    );
  });
}

export interface TrainedModel {
  readonly folder: string;
  /** Default 16. */
  readonly dimension?: number;
  /** Default 20,000. The file has about 4 x dimension x buckets bytes. */
  readonly buckets?: number;
  /** Default softmax. */
  readonly loss?: "softmax" | "hs" | "ova" | "ns";
  /** Default false: model.ftz instead of model.bin. */
  readonly isQuantized?: boolean;
}

/**
 * Trains a classifier of the sample's nine languages with OpenLID's labels and settings but the dimension, the buckets and the epochs.
 *
 * @returns its path
 */
export async function trainModel({ folder, dimension = 16, buckets = 20_000, loss = "softmax", isQuantized = false }: TrainedModel) {
  const text = join(folder, "train.txt");
  const lines = await sampleLines();
  writeFileSync(text, lines.map(({ language, line }) => `__label__${openLidLabels[language]} ${line}\n`).join(""));
  const model = join(folder, "model");
  const shape = ["-dim", String(dimension), "-bucket", String(buckets), "-minn", "2", "-maxn", "5", "-loss", loss];
  run([
    "supervised",
    "-input",
    text,
    "-output",
    model,
    ...shape,
    "-epoch",
    "25",
    "-lr",
    "0.8",
    "-thread",
    "1",
    "-seed",
    "1",
    "-verbose",
    "0",
  ]);
  if (!isQuantized) return `${model}.bin`;
  run([
    "quantize",
    "-input",
    text,
    "-output",
    model,
    "-qnorm",
    "-cutoff",
    "5000",
    "-retrain",
    "-epoch",
    "1",
    "-thread",
    "1",
    "-verbose",
    "0",
  ]);
  return `${model}.ftz`;
}
