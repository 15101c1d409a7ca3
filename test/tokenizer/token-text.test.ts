import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer, tokenText } from "../../src/tokenizer/index.js";
import { fixtureDir, modelFolder, sampleDir } from "./model-folder.js";

const fixtures = {
  "byte-level tokenizer.json": { "tokenizer.json": join(sampleDir, "tokenizer.json") },
  "SentencePiece with byte fallback": { "tokenizer.model": join(fixtureDir, "llama-like.tokenizer.model") },
  "SentencePiece without dummy prefix": { "tokenizer.model": join(fixtureDir, "baichuan-like.tokenizer.model") },
};

function texts(tokenizer: Tokenizer, text: string): string[] {
  return Array.from(tokenizer.encode(text), (id) => tokenText(tokenizer, id));
}

/** The bytes that a shown token stands for. */
function bytesShown(text: string): Buffer {
  const parts = text.split(/(<0x[0-9A-F]{2}>)/);
  return Buffer.concat(parts.map((part, i) => (i % 2 === 1 ? Buffer.from(part.slice(3, 5), "hex") : Buffer.from(part))));
}

describe.each(Object.entries(fixtures))("tokenText, %s", (_, files) => {
  it("shows every token so that its bytes can be told from it", async () => {
    const tokenizer = await loadTokenizer(await modelFolder(files));
    let broken = 0;
    for (let id = 0; id < tokenizer.vocabSize; id++) {
      const bytes = tokenizer.bytes(id);
      if (tokenizer.isSpecial(id) || bytes.length === 0) continue;
      const text = tokenText(tokenizer, id);
      expect(text).not.toContain("\ufffd");
      if (text.includes("<0x")) broken++;
      expect(bytesShown(text)).toEqual(Buffer.from(bytes));
    }
    expect(broken).toBeGreaterThan(0);
  });

  it("joined over a text of whole-character tokens, gives the text back", async () => {
    const tokenizer = await loadTokenizer(await modelFolder(files));
    expect(texts(tokenizer, "请写一个 story: où?").join("").trimStart()).toBe("请写一个 story: où?");
  });
});

describe("tokenText", () => {
  it("shows the bytes of a character that is spread over several tokens", async () => {
    const tokenizer = await loadTokenizer(await modelFolder(fixtures["SentencePiece without dummy prefix"]));
    expect(texts(tokenizer, "𝄞").join("")).toBe("<0xF0><0x9D><0x84><0x9E>");
  });

  it("names special tokens, and ids that are no token", async () => {
    const tokenizer = await loadTokenizer(await modelFolder(fixtures["SentencePiece with byte fallback"]));
    expect(tokenText(tokenizer, 1)).toBe("<s>");
    expect(tokenText(tokenizer, 69_999)).toBe("<id 69999>");
  });
});
