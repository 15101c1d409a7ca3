/** A grid over tiny models and the bundled sample: small enough to run to its end in a test. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { type Grid, resolveGrid } from "../../src/experiment/grid.js";
import { checkGrid, type GridFile } from "../../src/experiment/grid-settings.js";
import { makeTinyModel, sampleFolder } from "../train/tiny-run.js";

/** Writes prompts: two in each language. */
export function writePrompts(folder: string, languages: readonly string[]): string {
  mkdirSync(folder, { recursive: true });
  for (const language of languages) {
    const rows = [1, 2].map((id) => JSON.stringify({ id, prompt: `Question ${id} in ${language}?` }));
    writeFileSync(join(folder, `test_${language}.jsonl`), `${rows.join("\n")}\n`);
  }
  return folder;
}

/** As a file has it; nothing that it names need be there. */
export function gridContent(changes: Partial<GridFile> = {}): GridFile {
  return {
    ...{ out: "out", models: ["bloom-560m"], methods: ["lora"], conditions: ["multilingual"], languages: ["en", "de"] },
    ...{ dataDir: "data", promptsDir: "prompts", testLanguages: ["en", "no"] },
    ...changes,
  };
}

/** @throws where the content is no grid */
export async function gridOf(changes: Partial<GridFile> = {}): Promise<Grid> {
  const checked = checkGrid(gridContent(changes));
  if ("issues" in checked) throw new Error(JSON.stringify(checked.issues));
  return await resolveGrid(checked.settings);
}

/** Everything under `base`: models, prompts, and the grid file, whose path is returned. Six steps a run. */
export async function writeTinyGrid(base: string, changes: Partial<GridFile> = {}): Promise<string> {
  const content = gridContent({
    ...{
      out: join(base, "out"),
      models: ["tiny"],
      modelsDir: join(base, "models"),
      dataDir: sampleFolder,
      promptsDir: join(base, "prompts"),
    },
    train: {
      ...{ maxSteps: 6, batchSize: 8, microBatchTokens: 512, cutoff: 128, warmupSteps: 1, validationSize: 4, evalEvery: 3, saveEvery: 2 },
      ...{ dtype: "fp32", device: "cpu", lora: { learningRate: 1e-2 } },
    },
    ...{ generate: { numBeams: 1, maxNewTokens: 4 }, score: { resamples: 200 } },
    ...changes,
  });
  for (const model of content.models) {
    const name = typeof model === "string" ? model : model.name;
    await makeTinyModel(join(base, "models", name), name.includes("llama") ? "llama" : "bloom");
  }
  writePrompts(content.promptsDir, content.testLanguages);
  return writeGrid(base, content);
}

export function writeGrid(base: string, content: GridFile): string {
  const file = join(base, "grid.yaml");
  writeFileSync(file, stringify(content));
  return file;
}
