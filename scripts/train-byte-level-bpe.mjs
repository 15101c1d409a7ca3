#!/usr/bin/env node
/**
 * Trains a byte-level BPE on Alpaca files and writes tokenizer.json and tokenizer_config.json.
 *
 *   node scripts/train-byte-level-bpe.mjs VOCAB_SIZE OUT_DIR FILE...
 *
 * The most frequent pair merges first, the one that comes first in code-unit order of equals, so that the outcome depends on the
 * data alone. Needs `npm run build` first, for the shape of the files.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { alpacaTemplates, renderPrompt } from "../dist/data/index.js";
import { byteLevelTokenizer, smallestByteLevelVocabSize } from "../dist/tokenizer/index.js";

/** GPT-2's split into words, each of which is encoded on its own. */
const wordPattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Characters that stand for the bytes 0 to 255 in a byte-level vocabulary. */
const byteChars = Object.entries(byteLevelTokenizer(smallestByteLevelVocabSize).tokenizer.model.vocab)
  .filter(([, id]) => id >= smallestByteLevelVocabSize - 256)
  .sort(([, a], [, b]) => a - b)
  .map(([piece]) => piece);

/** @returns {string[][]} the words of `text`, each as byte characters */
export function byteWords(text) {
  return (text.match(wordPattern) ?? []).map((word) => Array.from(new TextEncoder().encode(word), (byte) => byteChars[byte]));
}

/** Applies the merges one after the other to a word: slow and obviously right, the reference for tests. */
export function encodeWord(symbols, merges) {
  let word = symbols;
  for (const [left, right] of merges) word = mergePair(word, left, right);
  return word;
}

function mergePair(word, left, right) {
  const merged = [];
  for (let i = 0; i < word.length; i++) {
    const isPair = word[i] === left && word[i + 1] === right;
    merged.push(isPair ? left + right : word[i]);
    if (isPair) i++;
  }
  return merged;
}

function trainMerges(texts, count) {
  const frequency = new Map();
  for (const text of texts) {
    for (const word of byteWords(text)) frequency.set(word.join(""), (frequency.get(word.join("")) ?? 0) + 1);
  }
  const words = [...frequency].map(([word, times]) => ({ symbols: Array.from(word), times }));
  const pairs = new Map(); // "left right" -> { times, words that hold it }
  const account = (word, sign) => {
    for (let i = 0; i + 1 < word.symbols.length; i++) {
      const key = `${word.symbols[i]} ${word.symbols[i + 1]}`;
      const pair = pairs.get(key) ?? { times: 0, words: new Set() };
      pair.times += sign * word.times;
      pair.words.add(word);
      pairs.set(key, pair);
    }
  };
  for (const word of words) account(word, 1);
  const merges = [];
  const made = new Set();
  while (merges.length < count) {
    const best = mostFrequent(pairs);
    if (best === null) throw new Error(`the data gives only ${merges.length} of ${count} merges; ask for a smaller vocabulary`);
    const [left, right] = best.split(" ");
    // Two splits of one piece would be two merges for one id.
    if (!made.has(left + right)) merges.push([left, right]);
    made.add(left + right);
    const affected = pairs.get(best).words;
    pairs.delete(best);
    for (const word of affected) {
      account(word, -1);
      word.symbols = mergePair(word.symbols, left, right);
      account(word, 1);
    }
    pairs.delete(best);
  }
  return merges;
}

function mostFrequent(pairs) {
  let best = null;
  let times = 1; // a pair seen once teaches nothing
  for (const [key, pair] of pairs) {
    if (pair.times > times || (pair.times === times && best !== null && key < best)) {
      best = key;
      times = pair.times;
    }
  }
  return best;
}

async function main([vocabSize, outDir, ...files]) {
  const texts = [];
  for (const file of files) {
    for (const record of JSON.parse(await readFile(file, "utf8"))) {
      texts.push(renderPrompt(alpacaTemplates.lora, record) + record.output);
    }
  }
  const merges = trainMerges(texts, Number(vocabSize) - smallestByteLevelVocabSize);
  const { tokenizer, config } = byteLevelTokenizer(Number(vocabSize), merges);
  await writeFile(join(outDir, "tokenizer.json"), `${JSON.stringify(tokenizer, null, 1)}\n`);
  await writeFile(join(outDir, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2));
