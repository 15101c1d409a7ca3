import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { byteLevelTokenizer, inspectTokenizerFile, loadTokenizer, type Tokenizer, TokenStream } from "../../src/tokenizer/index.js";
import { fixtureDir, modelFolder, sampleDir, sentencePieceFile, type TestPiece } from "./model-folder.js";

const llamaLike = join(fixtureDir, "llama-like.tokenizer.model");
const baichuanLike = join(fixtureDir, "baichuan-like.tokenizer.model");
const byteLevel = join(sampleDir, "tokenizer.json");

const control: readonly TestPiece[] = [
  { piece: "<unk>", type: 2 },
  { piece: "<s>", type: 3 },
  { piece: "</s>", type: 3 },
];
const letters = (text: string): TestPiece[] => [...new Set(text)].map((piece) => ({ piece, score: -1000 }));

/** A LLaMA-like tokenizer.json whose merges could spell its own special tokens. */
function llamaLikeJson(merges: readonly string[], options: { readonly leading?: string; readonly processor?: object } = {}): object {
  const pieces = ["<unk>", "<s>", "</s>", ..."▁<>/sabc", ...merges.map((merge) => merge.replace(" ", ""))];
  const single = [
    ...(options.leading ? [{ SpecialToken: { id: options.leading, type_id: 0 } }] : []),
    { Sequence: { id: "A", type_id: 0 } },
  ];
  return {
    added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: options.processor ?? { type: "TemplateProcessing", single, pair: [], special_tokens: {} },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries([...new Set(pieces)].map((piece, id) => [piece, id])),
      merges,
    },
  };
}

describe("BOS", () => {
  it("comes first by default where there is a tokenizer.model", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaLike }));
    expect(tokenizer.addsBos).toBe(true);
    expect([...tokenizer.encode("text")]).not.toContain(1);
  });

  it("follows add_bos_token over everything else", async () => {
    const withModel = await modelFolder({ "tokenizer.model": baichuanLike, "tokenizer_config.json": { add_bos_token: false } });
    expect((await loadTokenizer(withModel)).addsBos).toBe(false);
    const withJson = await modelFolder({ "tokenizer.json": byteLevel, "tokenizer_config.json": { add_bos_token: true } });
    expect((await loadTokenizer(withJson)).addsBos).toBe(true);
  });

  it("follows the post-processor of a tokenizer.json, also inside a sequence of them", async () => {
    const load = async (json: object): Promise<boolean> => (await loadTokenizer(await modelFolder({ "tokenizer.json": json }))).addsBos;
    expect(await load(llamaLikeJson([], { leading: "<s>" }))).toBe(true);
    expect(await load(llamaLikeJson([]))).toBe(false);
    const template = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    };
    expect(await load(llamaLikeJson([], { processor: { type: "Sequence", processors: [{ type: "ByteLevel" }, template] } }))).toBe(true);
    expect(await load(llamaLikeJson([], { processor: { type: "ByteLevel" } }))).toBe(false);
  });

  it("is the default of LLaMA's tokenizer classes", async () => {
    const folder = await modelFolder({
      "tokenizer.json": llamaLikeJson([]),
      "tokenizer_config.json": { tokenizer_class: "LlamaTokenizerFast" },
    });
    expect((await loadTokenizer(folder)).addsBos).toBe(true);
  });

  it("is refused where no id is known for it", async () => {
    const json = byteLevelTokenizer(260).tokenizer as { added_tokens: object[]; model: { vocab: Record<string, number> } };
    json.added_tokens = [];
    for (const name of ["<s>", "</s>"]) delete json.model.vocab[name];
    const folder = await modelFolder({ "tokenizer.json": json, "tokenizer_config.json": { add_bos_token: true } }, { vocab_size: 300 });
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: "BAD_TOKENIZER", message: expect.stringContaining("bos_token_id") });
  });
});

describe("special tokens inside text", () => {
  it.each([
    ["tokenizer.model", { "tokenizer.model": llamaLike }],
    ["byte-level tokenizer.json", { "tokenizer.json": byteLevel }],
    [
      "LLaMA-like tokenizer.json with merges that spell them",
      { "tokenizer.json": llamaLikeJson(["< s", "<s >", "s >", "< s>", "< /", "</ s>"]) },
    ],
  ])("are plain text in a %s", async (_, files) => {
    const tokenizer = await loadTokenizer(await modelFolder(files));
    const ids = [...tokenizer.encode("<s>a</s><unk>")];
    expect(ids.filter((id) => id === 1 || id === 2)).toEqual([]);
    expect(tokenizer.decode(ids.slice(0, -1))).toMatch(/^<s>a<\/s>/);
  });

  it("are left out by decode, or kept when asked", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaLike }));
    const ids = [1, ...tokenizer.encode("Hello"), 2];
    expect(tokenizer.decode(ids)).toBe("Hello");
    expect(tokenizer.decode(ids, { skipSpecial: false })).toBe("<s> Hello</s>");
  });
});

describe("SentencePiece merging", () => {
  it("finds pieces whose names are properties of plain objects", async () => {
    const word = "constructor";
    const prefixes = Array.from({ length: word.length - 1 }, (_, i) => ({ piece: word.slice(0, i + 2), score: -i }));
    const pieces = [...control, ...letters(`${word}_`), ...prefixes, { piece: "__", score: -20 }, { piece: "__proto__", score: -21 }];
    const folder = await modelFolder({ "tokenizer.model": sentencePieceFile({ pieces, addDummyPrefix: false }) });
    const tokenizer = await loadTokenizer(folder);
    const constructorId = pieces.findIndex(({ piece }) => piece === word);
    expect([...tokenizer.encode(word)]).toEqual([constructorId]);
    expect(tokenizer.decode([constructorId])).toBe(word);
    expect(tokenizer.encode("toString")).not.toContain(Number.NaN);
  });

  it("merges the leftmost of equal scores, whichever way a piece splits", async () => {
    // "aaa" is a+aa and aa+a; after c, "aa" and "a" stand in both orders.
    const pieces = [...control, ...letters("ab"), { piece: "aa", score: -1 }, { piece: "aab", score: -3 }, { piece: "aaa", score: -2 }];
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": sentencePieceFile({ pieces, addDummyPrefix: false }) }));
    expect([...tokenizer.encode("aaaab")].map((id) => tokenizer.piece(id))).toEqual(["aa", "aab"]);
    expect([...tokenizer.encode("aaaaa")].map((id) => tokenizer.piece(id))).toEqual(["aa", "aaa"]);
  });

  it("gives a run of unknown characters one id, and never merges control or byte pieces out of text", async () => {
    const pieces = [...control, ...letters("<s>0xA"), { piece: "<0x0A>", type: 6 }];
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": sentencePieceFile({ pieces, addDummyPrefix: false }) }));
    expect([...tokenizer.encode("sщщщs")].map((id) => tokenizer.piece(id))).toEqual(["s", "<unk>", "s"]);
    expect(tokenizer.encode("<0x0A>")).toHaveLength(6);
    expect(tokenizer.decode(tokenizer.encode("<0x0A>"))).toBe("<0x0A>");
  });

  it("drops the dummy prefix at the start of a text and keeps it in a continuation", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaLike }));
    const ids = tokenizer.encode("word");
    expect(tokenizer.decode(ids)).toBe("word");
    expect(tokenizer.decode(ids, { continuation: true })).toBe(" word");
    const without = await loadTokenizer(await modelFolder({ "tokenizer.model": baichuanLike }));
    expect(without.decode(without.encode(" word"))).toBe(" word");
  });
});

describe("ids of config.json", () => {
  it("hold, and a disagreement with the tokenizer's files becomes a note", async () => {
    const files = { "tokenizer.model": llamaLike, "special_tokens_map.json": { bos_token: "</s>", eos_token: { content: "</s>" } } };
    const tokenizer = await loadTokenizer(await modelFolder(files));
    expect(tokenizer).toMatchObject({ bosTokenId: 1, eosTokenId: 2 });
    expect(tokenizer.notes).toEqual([expect.stringMatching(/bos_token_id 1 .*special_tokens_map\.json says 2 .*config\.json holds/)]);
  });

  it("are the tokenizer's own where config.json has none", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaLike }, { vocab_size: 2000 }));
    expect(tokenizer).toMatchObject({ bosTokenId: 1, eosTokenId: 2, notes: [] });
  });

  it("may make EOS and padding the same token, which is noted", async () => {
    const config = { vocab_size: 2000, bos_token_id: 1, eos_token_id: [2, 7], pad_token_id: 2 };
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaLike }, config));
    expect(tokenizer.eosTokenId).toBe(2);
    expect(tokenizer.notes).toEqual([expect.stringContaining("lists 2 ids"), expect.stringContaining("EOS and padding are the same")]);
  });

  it("change the content hash, as the tokenizer does", async () => {
    const hash = async (files: Record<string, string>, eos: number): Promise<string> =>
      (await loadTokenizer(await modelFolder(files, { vocab_size: 4000, bos_token_id: 1, eos_token_id: eos }))).contentHash;
    const hashes = [
      await hash({ "tokenizer.model": llamaLike }, 2),
      await hash({ "tokenizer.model": llamaLike }, 3),
      await hash({ "tokenizer.model": baichuanLike }, 2),
    ];
    expect(new Set(hashes).size).toBe(3);
    expect(await hash({ "tokenizer.model": llamaLike }, 2)).toBe(hashes[0]);
  });
});

describe("a folder with both formats", () => {
  it("uses tokenizer.model, lists all files, and notes where tokenizer.json gives other ids", async () => {
    const folder = await modelFolder({ "tokenizer.model": llamaLike, "tokenizer.json": byteLevel, "tokenizer_config.json": {} });
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer.notes).toEqual([expect.stringMatching(/disagree: token 0 .*tokenizer\.model is used/)]);
    expect(tokenizer.files.map((file) => basename(file))).toEqual(["tokenizer.json", "tokenizer.model", "tokenizer_config.json"]);
    const alone = await loadTokenizer(await modelFolder({ "tokenizer.model": llamaLike }));
    expect(tokenizer.encode("same")).toEqual(alone.encode("same"));
  });

  it("notes a converted tokenizer.json whose merges are out of order", async () => {
    const json = llamaLikeJson(["a b", "b c"]) as { model: { merges: string[] } };
    expect((await loadTokenizer(await modelFolder({ "tokenizer.json": json }))).notes).toEqual([]);
    json.model.merges.reverse();
    expect((await loadTokenizer(await modelFolder({ "tokenizer.json": json }))).notes).toEqual([
      expect.stringMatching(/merges are not in the order.*"ab"/),
    ]);
  });
});

describe("refused", () => {
  it("a vocabulary larger than the model's, naming both", async () => {
    const folder = await modelFolder({ "tokenizer.model": llamaLike }, { vocab_size: 1000 });
    await expect(loadTokenizer(folder)).rejects.toMatchObject({
      code: "CHECKPOINT_MISMATCH",
      message: expect.stringMatching(/ids up to 1999 .*vocab_size 1000/),
    });
  });

  it("a folder without tokenizer, and one without config.json", async () => {
    await expect(loadTokenizer(await modelFolder({}))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("tokenizer.model"),
    });
    await expect(loadTokenizer(join(fixtureDir, "nowhere"))).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("config.json"),
    });
  });

  it("SentencePiece models other than BPE, by name", async () => {
    const unigram = sentencePieceFile({ pieces: [...control, ...letters("ab")], modelType: 1 });
    await expect(loadTokenizer(await modelFolder({ "tokenizer.model": unigram }))).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringMatching(/tokenizer\.model: a SentencePiece unigram model/),
    });
    const unused = sentencePieceFile({ pieces: [...control, { piece: "ab", type: 5 }] });
    await expect(loadTokenizer(await modelFolder({ "tokenizer.model": unused }))).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining('"ab"'),
    });
  });

  it("every truncation of a SentencePiece model, or reads it as a smaller one", async () => {
    const whole = await readFile(llamaLike);
    for (const length of [0, 1, 2, 17, 1000, whole.length - 1]) {
      const folder = await modelFolder({ "tokenizer.model": whole.subarray(0, length) });
      await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: expect.stringMatching(/BAD_TOKENIZER|UNSUPPORTED/) });
    }
  });

  it.each([
    ["not JSON", Buffer.from("{"), "BAD_TOKENIZER", "not valid JSON"],
    ["no model", { model: null }, "BAD_TOKENIZER", '"model"'],
    ["a WordPiece model", { model: { type: "WordPiece", vocab: {} } }, "UNSUPPORTED", "WordPiece"],
    ["an id that is none", { model: { type: "BPE", vocab: { a: -1 }, merges: [] } }, "BAD_TOKENIZER", 'piece "a"'],
    ["a merge that is no pair", { model: { type: "BPE", vocab: { a: 0 }, merges: ["a"] } }, "BAD_TOKENIZER", 'merge "a"'],
    ["an unknown decoder", { decoder: { type: "CTC" }, model: { type: "BPE", vocab: { a: 0 }, merges: [] } }, "UNSUPPORTED", "decoder CTC"],
    [
      "an unknown normaliser",
      { normalizer: { type: "Rot13" }, decoder: { type: "Fuse" }, model: { type: "BPE", vocab: { a: 0 }, merges: [] } },
      "BAD_TOKENIZER",
      "Rot13",
    ],
  ])("a tokenizer.json with %s", async (_, content, code, message) => {
    const folder = await modelFolder({ "tokenizer.json": content });
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

describe("byteLevelTokenizer", () => {
  it("encodes any text by its bytes and stays inside the smallest vocabulary", async () => {
    const { tokenizer: json, config } = byteLevelTokenizer(260);
    const folder = await modelFolder(
      { "tokenizer.json": json, "tokenizer_config.json": config },
      { vocab_size: 260, bos_token_id: 1, eos_token_id: 2 },
    );
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer).toMatchObject({ vocabSize: 260, addsBos: false, bosTokenId: 1, eosTokenId: 2, notes: [] });
    const text = "a\u0000\n é 中 🙂 <s>";
    expect([...tokenizer.encode(text)]).toEqual([...Buffer.from(text)].map((byte) => byte + 4));
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(await inspectTokenizerFile(join(folder, "tokenizer.json"))).toEqual({ vocabSize: 260, bosTokenId: 1, eosTokenId: 2 });
  });

  it("leaves the rest of a larger vocabulary without text", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.json": byteLevelTokenizer(32_000).tokenizer }));
    expect(tokenizer.decode([4 + 0x61, 31_999, 4 + 0x62])).toBe("ab");
  });

  it("refuses a vocabulary that cannot hold the bytes", () => {
    expect(() => byteLevelTokenizer(259)).toThrow(/--vocab 259: .*at least 260/);
  });
});

describe("TokenStream", () => {
  const streamed = (tokenizer: Tokenizer, ids: Iterable<number>, continuation: boolean): string[] => {
    const stream = new TokenStream(tokenizer, { continuation });
    return [...Array.from(ids, (id) => stream.push(id)), stream.end()];
  };

  it.each([
    ["byte-level", { "tokenizer.json": byteLevel }],
    ["SentencePiece", { "tokenizer.model": llamaLike }],
  ])("gives the text of decode and never half a character (%s)", async (_, files) => {
    const tokenizer = await loadTokenizer(await modelFolder(files));
    for (const text of ["plain words", "смесь 混合 🙂👩‍👩‍👧 बांग्ला", "\ufeff mark"]) {
      const ids = tokenizer.encode(text);
      for (const continuation of [false, true]) {
        const parts = streamed(tokenizer, ids, continuation);
        expect(parts.join("")).toBe(tokenizer.decode(ids, { continuation }));
        expect(parts.join("")).not.toContain("\ufffd");
      }
    }
  });

  it("holds an incomplete character back and ends it with U+FFFD", async () => {
    const tokenizer = await loadTokenizer(await modelFolder({ "tokenizer.json": byteLevelTokenizer(260).tokenizer }));
    const bytes = Array.from(Buffer.from("🙂"), (byte) => byte + 4);
    expect(streamed(tokenizer, bytes, true)).toEqual(["", "", "", "🙂", ""]);
    expect(streamed(tokenizer, bytes.slice(0, 3), true)).toEqual(["", "", "", "\ufffd"]);
    expect(streamed(tokenizer, [4 + 0x61, 2], true)).toEqual(["a", "", ""]);
  });
});
