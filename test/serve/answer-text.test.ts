import { describe, expect, it } from "vitest";
import { alpacaTemplates, extractResponse } from "../../src/data/index.js";
import { type AnswerForm, AnswerText } from "../../src/serve/answer-text.js";
import type { Tokenizer } from "../../src/tokenizer/index.js";
import { characterTokenizer, numbersFrom } from "../data/data-folder.js";

/** Ids 0 to 255 are bytes, 256 and above the given texts; -1 is special. */
function byteTokenizer(texts: readonly string[] = []): Tokenizer {
  const bytes = (id: number): Uint8Array => (id < 256 ? Uint8Array.of(Math.max(id, 0)) : Buffer.from(texts[id - 256]!));
  return { ...characterTokenizer(), bytes, isSpecial: (id) => id < 0 };
}

function run(tokenizer: Tokenizer, ids: readonly number[], form: Partial<AnswerForm> = {}) {
  const answer = new AnswerText<{ readonly token: number }>(tokenizer, { stops: [], isTrimmed: false, ...form });
  const parts = [];
  for (const token of ids) {
    parts.push(answer.push({ token }));
    if (answer.isStopped) break;
  }
  parts.push(answer.end());
  const tokens = parts.flatMap((part) => part.tokens).map(({ decoded, offset }) => [decoded.token, offset]);
  return { text: parts.map(({ text }) => text).join(""), tokens, texts: parts.map(({ text }) => text) };
}

describe("AnswerText", () => {
  it("gives a character with its last byte", () => {
    const { texts, tokens } = run(byteTokenizer(), [...Buffer.from("aé")]);
    expect(texts).toEqual(["a", "", "é", ""]);
    expect(tokens).toEqual([
      [0x61, 0],
      [0xc3, 1],
      [0xa9, 1],
    ]);
  });

  it("counts characters as Python does", () => {
    expect(run(byteTokenizer(["😀", "b"]), [256, 257, 256]).tokens).toEqual([
      [256, 0],
      [257, 1],
      [256, 2],
    ]);
  });

  it("leaves out the tokens of a stop string, but not one that begins before it", () => {
    const tokenizer = byteTokenizer(["ab", "c.", ".d", "e"]);
    expect(run(tokenizer, [256, 257, 258, 259], { stops: [".."] })).toMatchObject({
      text: "abc",
      tokens: [
        [256, 0],
        [257, 2],
      ],
    });
    expect(run(tokenizer, [256, 258, 259], { stops: ["."] })).toMatchObject({ text: "ab", tokens: [[256, 0]] });
  });

  it("gives the tokens with the text they began, not before", () => {
    const answer = new AnswerText<{ readonly token: number }>(byteTokenizer(["a", "ST", "OR"]), { stops: ["STOP"], isTrimmed: false });
    const step = (token: number): [string, number] => {
      const { text, tokens } = answer.push({ token });
      return [text, tokens.length];
    };
    expect([step(256), step(257), step(258)]).toEqual([
      ["a", 1],
      ["", 0],
      ["STOR", 2],
    ]);
  });

  it("puts U+FFFD where the last character is incomplete", () => {
    expect(run(byteTokenizer(), [0x61, 0xe4, 0xbd])).toMatchObject({
      text: "a\ufffd",
      tokens: [
        [0x61, 0],
        [0xe4, 1],
        [0xbd, 1],
      ],
    });
  });

  it("gives tokens without text at once, unless text before them is held back", () => {
    const answer = new AnswerText<{ readonly token: number }>(byteTokenizer(["a", "ST", ""]), { stops: ["STOP"], isTrimmed: false });
    const counts = [256, -1, 258, 257, -1, 258].map((token) => answer.push({ token }).tokens.length);
    expect(counts).toEqual([1, 1, 1, 0, 0, 0]);
    expect(answer.end()).toMatchObject({ text: "ST", tokens: [{ offset: 1 }, { offset: 3 }, { offset: 3 }] });
  });

  it("gives special tokens without text", () => {
    expect(run(byteTokenizer(["a"]), [256, -1, 256])).toMatchObject({
      text: "aa",
      tokens: [
        [256, 0],
        [-1, 1],
        [256, 1],
      ],
    });
  });

  it("ends and trims as extractResponse does, however the tokens cut the text", () => {
    const draw = numbersFrom(7);
    const pieces = ["a", " ", "\n", "#", "###", "\n### ", "  b", "c\n", "\u3000", ".", "\n##"];
    const tokenizer = byteTokenizer(pieces);
    for (let round = 0; round < 3_000; round++) {
      const ids = Array.from({ length: draw(10) }, () => 256 + draw(pieces.length));
      const whole = ids.map((id) => pieces[id - 256]).join("");
      const { text } = run(tokenizer, ids, { stops: ["\n### "], isTrimmed: true });
      expect(text, JSON.stringify(whole)).toBe(extractResponse(alpacaTemplates.lora.responseSplit + whole, alpacaTemplates.lora));
    }
  });
});
