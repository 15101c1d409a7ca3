#!/usr/bin/env node
/**
 * Parts of make-tokenizer-fixtures.sh:
 *   corpus FILE...                         every line of the records, for spm_train
 *   lines FILE...                          the 200 lines that tests encode: 150 of the data, 50 awkward ones
 *   ids LINES TOKENIZER NAME=IDS...        the fixture: the lines, spm_encode's ids, and the ids of the byte-level tokenizer
 */
import { readFile } from "node:fs/promises";
import { byteWords, encodeWord } from "./train-byte-level-bpe.mjs";

const awkwardLines = [
  " leading space",
  "  two leading spaces",
  "trailing space ",
  "inner   runs    of     spaces",
  "       seven spaces and  two",
  "\ttab first",
  "tab\tin\t\tthe middle",
  "▁ the metaspace itself ▁▁",
  "<s>not a control token</s>",
  "<unk><pad><|endoftext|>",
  "<0x0A> is text, not a byte",
  "### Instruction:",
  "### Response:",
  "constructor",
  "__proto__ and toString()",
  "emoji: 🙂👩‍👩‍👧‍👦🇧🇬",
  "emoji run 🙂🙂🙂🙂",
  "বাংলা এবং हिन्दी",
  "日本語のテキストと한국어",
  "العربية من اليمين إلى اليسار",
  "ελληνικά, עברית, ქართული",
  "combining: e\u0301 n\u0303 a\u030a",
  "precomposed: é ñ å",
  "ligatures: ﬁ ﬂ and full width: ＡＢＣ１２３",
  "zero\u200bwidth\u200djoiner and soft\u00adhyphen",
  "no-break\u00a0space and ideographic\u3000space",
  "\ufeffbyte order mark inside",
  "1234567890 3.14159 -42 1e-5",
  "2024-05-17T08:30:00Z",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "a a a a a a a a",
  "!!!???...,,,;;;:::",
  "(((nested [brackets {here}])))",
  "https://example.org/path?query=1&other=%20#fragment",
  "user@example.org",
  'def f(x): return {"a": [1, 2, 3]}[x]',
  "    for (int i = 0; i < n; ++i) {",
  "<html><body class='x'>&amp;</body></html>",
  "C:\\Windows\\System32\\drivers\\etc\\hosts",
  "don't, won't, it's, I'll, they've, we're, I'd",
  "DON'T SHOUT",
  "CamelCaseIdentifier snake_case_identifier kebab-case",
  "ﷺ ½ ² ™ © €100",
  "𝒎𝒂𝒕𝒉 𝕓𝕠𝕝𝕕 𐍈",
  "混合 mixed текст и 中文 together",
  "ß ẞ ı İ ſ",
  "\u0001control\u0007 characters\u001b",
  "x",
  "。",
  " ",
];

async function recordLines(files) {
  const perFile = [];
  for (const file of files) {
    const records = JSON.parse(await readFile(file, "utf8"));
    perFile.push(records.flatMap(({ instruction, input, output }) => [instruction, input, output]).flatMap((text) => text.split("\n")));
  }
  return perFile.map((lines) => lines.filter((line) => line.trim() !== ""));
}

/** Evenly spread over each file, the files in turn. */
async function chooseLines(files, count) {
  const perFile = await recordLines(files);
  const chosen = [];
  for (let i = 0; chosen.length < count; i++) {
    const lines = perFile[i % perFile.length];
    const round = Math.floor(i / perFile.length);
    const line = lines[Math.floor((round * perFile.length * lines.length) / (count + perFile.length))];
    if (!chosen.includes(line)) chosen.push(line);
  }
  return chosen;
}

async function fixture([linesFile, tokenizerFile, ...models]) {
  const lines = (await readFile(linesFile, "utf8")).split("\n").slice(0, -1);
  const { vocab, merges } = JSON.parse(await readFile(tokenizerFile, "utf8")).model;
  const pairs = merges.map((merge) => merge.split(" "));
  const ids = {
    "byte-level": lines.map((line) => byteWords(line).flatMap((word) => encodeWord(word, pairs).map((piece) => vocab[piece]))),
  };
  for (const model of models) {
    const [name, file] = model.split("=");
    const rows = (await readFile(file, "utf8")).split("\n").slice(0, -1);
    if (rows.length !== lines.length) throw new Error(`${file}: ${rows.length} rows for ${lines.length} lines`);
    ids[name] = rows.map((row) => row.split(" ").filter(Boolean).map(Number));
  }
  const entries = lines.map((line, i) =>
    JSON.stringify({ line, ids: Object.fromEntries(Object.entries(ids).map(([name, rows]) => [name, rows[i]])) }),
  );
  return `[\n${entries.join(",\n")}\n]\n`;
}

const [command, ...args] = process.argv.slice(2);
if (command === "corpus") process.stdout.write(`${(await recordLines(args)).flat().join("\n")}\n`);
else if (command === "lines") process.stdout.write(`${[...(await chooseLines(args, 150)), ...awkwardLines].join("\n")}\n`);
else if (command === "ids") process.stdout.write(await fixture(args));
else throw new Error(`unknown part "${command}"; corpus, lines or ids was expected`);
