/** Ids of the committed tokenizers against what spm_encode (and, for the byte-level one, merging by the book) gave for 200 lines. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../src/tokenizer/index.js";
import { fixtureDir, modelFolder, sampleDir } from "./model-folder.js";

const tokenizerNames = ["llama-like", "baichuan-like", "rules", "byte-level"] as const;
type TokenizerName = (typeof tokenizerNames)[number];
interface ReferenceLine {
  readonly line: string;
  readonly ids: Readonly<Record<TokenizerName, readonly number[]>>;
}

let reference: readonly ReferenceLine[] = [];
beforeAll(async () => {
  reference = JSON.parse(await readFile(join(fixtureDir, "reference-ids.json"), "utf8"));
});

async function load(name: TokenizerName): Promise<Tokenizer> {
  if (name === "byte-level") return loadTokenizer(await modelFolder({ "tokenizer.json": join(sampleDir, "tokenizer.json") }));
  return loadTokenizer(await modelFolder({ "tokenizer.model": join(fixtureDir, `${name}.tokenizer.model`) }));
}

describe.each(tokenizerNames)("%s", (name) => {
  it("gives the reference ids for all 200 lines", async () => {
    const tokenizer = await load(name);
    const found = reference.map(({ line }) => ({ line, ids: [...tokenizer.encode(line)] }));
    expect(found).toEqual(reference.map(({ line, ids }) => ({ line, ids: ids[name] })));
    expect(found).toHaveLength(200);
  });

  it("decodes what it encoded", async () => {
    const tokenizer = await load(name);
    for (const { line } of reference) {
      const ids = tokenizer.encode(line);
      const decoded = tokenizer.decode(ids);
      if (name === "rules") {
        // Its rules rewrite text, and it has no byte fallback: what it can spell comes back as it is.
        if (!ids.includes(0) && !line.includes("▁")) expect(tokenizer.decode(tokenizer.encode(decoded))).toBe(decoded);
      } else {
        // "▁" is how SentencePiece writes a space, so a text that holds it cannot come back.
        expect(decoded).toBe(name === "byte-level" ? line : line.replaceAll("▁", " "));
      }
    }
  });
});

describe("texts of several lines", () => {
  it.each(["llama-like", "baichuan-like", "byte-level"] as const)("come back from %s with line breaks and tabs", async (name) => {
    const tokenizer = await load(name);
    const text = "### Instruction:\nList three.\n\n### Response:\n1.\tоdin\r\n2. 二\n";
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.encode("")).toHaveLength(0);
  });
});
