import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { alpacaTemplates, renderPrompt } from "../../src/data/index.js";
import { type ReferenceRow, referenceLikelihood } from "../../src/generate/reference-likelihood.js";
import { Model } from "../../src/native/model.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { alpaca, temporaryFolder } from "../data/data-folder.js";
import { makeTinyModel, quietEnvironment } from "../train/tiny-run.js";

const records = [alpaca("Name a colour.", "Blue."), alpaca("Count.", "One, two, three, four."), alpaca("Say nothing more.", "No.")];
const environment = { ...quietEnvironment(), now: () => 0 };

describe("the likelihood of references", () => {
  it("is the mean log-probability of the answer's tokens given the prompt, EOS included", async () => {
    const folder = await temporaryFolder();
    const dir = await makeTinyModel(join(folder, "model"));
    const file = join(folder, "alpaca.en.json");
    writeFileSync(file, JSON.stringify(records));
    const out = join(folder, "likelihood.jsonl");
    const settings = { model: dir, adapter: null, records: 2, cutoff: 256, out, device: "cpu", dtype: "fp32" } as const;
    const summary = await referenceLikelihood({ ...settings, references: [{ language: "en", file }] }, environment);
    expect(summary).toEqual({ out, references: 2 });
    const rows = readFileSync(out, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as ReferenceRow);

    const tokenizer = await loadTokenizer(dir);
    const model = await Model.load(dir, { device: "cpu", dtype: "fp32" });
    for (const [index, { instruction, output }] of records.slice(0, 2).entries()) {
      const prompt = renderPrompt(alpacaTemplates.fft, { instruction });
      const ids = Int32Array.from([...tokenizer.encode(prompt + output), tokenizer.eosTokenId!]);
      const first = tokenizer.encode(prompt).length;
      const logits = await model.logits(ids);
      const vocabulary = logits.length / ids.length;
      let sum = 0;
      for (let t = first; t < ids.length; t++) {
        const row = logits.subarray((t - 1) * vocabulary, t * vocabulary);
        const logTotal = Math.log(row.reduce((total, logit) => total + Math.exp(logit), 0));
        sum += row[ids[t]!]! - logTotal;
      }
      expect(rows[index]).toMatchObject({ id: String(index), language: "en", tokens: ids.length - first });
      expect(rows[index]!.logLikelihood).toBeCloseTo(sum / (ids.length - first), 4);
    }
    await model.dispose();
  });

  it("of answers that the cutoff leaves nothing of is refused", async () => {
    const folder = await temporaryFolder();
    const dir = await makeTinyModel(join(folder, "model"));
    const file = join(folder, "alpaca.en.json");
    writeFileSync(file, JSON.stringify(records));
    const settings = { model: dir, adapter: null, records: 2, cutoff: 8, out: join(folder, "out.jsonl"), device: "cpu", dtype: null };
    await expect(referenceLikelihood({ ...settings, references: [{ language: "en", file }] }, environment)).rejects.toThrow(
      /no reference has an answer within 8 tokens/,
    );
  });
});
