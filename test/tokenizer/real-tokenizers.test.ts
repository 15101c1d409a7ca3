/** The tokenizers of LLaMA and Pythia where they are at hand, LLaMA's against spm_encode where that is installed. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { inspectTokenizerFile, loadTokenizer } from "../../src/tokenizer/index.js";
import { fixtureDir, modelFolder, realTokenizerDir } from "./model-folder.js";

const llamaFile = join(realTokenizerDir, "llama.tokenizer.model");
const neoxFile = join(realTokenizerDir, "gpt_neox.tokenizer.json");

async function referenceLines(): Promise<string[]> {
  const entries: { line: string }[] = JSON.parse(await readFile(join(fixtureDir, "reference-ids.json"), "utf8"));
  return entries.map(({ line }) => line);
}

function spmEncode(model: string, lines: readonly string[]): number[][] | null {
  const run = spawnSync("spm_encode", [`--model=${model}`, "--output_format=id"], { input: `${lines.join("\n")}\n`, encoding: "utf8" });
  if (run.error) return null;
  return run.stdout
    .split("\n")
    .slice(0, -1)
    .map((row) => row.split(" ").filter(Boolean).map(Number));
}

describe("LLaMA's tokenizer.model", () => {
  it("gives spm_encode's ids", async ({ skip }) => {
    if (!existsSync(llamaFile)) skip("../shared/tokenizers/llama.tokenizer.model is not there");
    const lines = await referenceLines();
    const expected = spmEncode(llamaFile, lines);
    if (expected === null) skip("spm_encode is not installed (Debian: apt-get install sentencepiece)");
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaFile }));
    expect(lines.map((line) => [...tokenizer.encode(line)])).toEqual(expected);
  });

  it("has BOS first, the ids that are published, and a piece named constructor", async ({ skip }) => {
    if (!existsSync(llamaFile)) skip("../shared/tokenizers/llama.tokenizer.model is not there");
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaFile }));
    expect(tokenizer).toMatchObject({ vocabSize: 32_000, addsBos: true, bosTokenId: 1, eosTokenId: 2, notes: [] });
    expect([...tokenizer.encode("Hello world")]).toEqual([15043, 3186]);
    expect([...tokenizer.encode("constructor")].map((id) => tokenizer.piece(id))).toEqual(["▁constructor"]);
    expect([...tokenizer.encode("<s>")]).not.toContain(1);
  });
});

describe("Pythia's tokenizer.json", () => {
  it("encodes runs of spaces by its added tokens and keeps the end-of-text name as text", async ({ skip }) => {
    if (!existsSync(neoxFile)) skip("../shared/tokenizers/gpt_neox.tokenizer.json is not there");
    const folder = await modelFolder({ "tokenizer.json": neoxFile }, { vocab_size: 50_304, bos_token_id: 0, eos_token_id: 0 });
    const tokenizer = await loadTokenizer(folder);
    // 50,254 merges and bytes, 23 runs of spaces, and special tokens that no text may reach, one of them named "assistant".
    expect(tokenizer).toMatchObject({ vocabSize: 50_281, addsBos: false, bosTokenId: 0, eosTokenId: 0, notes: [] });
    expect([...tokenizer.encode("Hello world")]).toEqual([12092, 1533]);
    expect([...tokenizer.encode("x\n        y")]).toContain(50_270);
    expect([...tokenizer.encode("<|endoftext|>")]).not.toContain(0);
    expect(Math.max(...tokenizer.encode("assistant"))).toBeLessThan(50_254);
    for (const line of await referenceLines()) expect(tokenizer.decode(tokenizer.encode(line))).toBe(line.normalize("NFC"));
  });

  it("tells a new model its size and end-of-text token", async ({ skip }) => {
    if (!existsSync(neoxFile)) skip("../shared/tokenizers/gpt_neox.tokenizer.json is not there");
    expect(await inspectTokenizerFile(neoxFile)).toEqual({ vocabSize: 50_281, bosTokenId: 0, eosTokenId: 0 });
  });
});
