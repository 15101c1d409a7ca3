import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readAlpaca, readPrompts } from "../../src/data/index.js";
import { planText } from "../../src/translate/plan-text.js";
import { numbersFrom, realDataDir, sampleDir } from "../data/data-folder.js";
import { protectedPieces, randomText } from "./random-text.js";

const english = { language: "en", maxCharacters: 500 };

/** Segments with the text that stands in front of each, and after the last. */
function layout(text: string, options: Parameters<typeof planText>[1] = english): { segments: readonly string[]; kept: string } {
  const plan = planText(text, options);
  return { segments: plan.segments, kept: plan.assemble(plan.segments.map(() => "·")).text };
}

/** With each translation as `change` makes it of its segment. */
function translate(text: string, change: (segment: string) => string, options = english): { text: string; lost: readonly string[] } {
  const plan = planText(text, options);
  return plan.assemble(plan.segments.map(change));
}

const optionsOfAllKinds = [16, 40, 500].flatMap((maxCharacters) =>
  [true, false].map((joinSentences) => ({ maxCharacters, joinSentences })),
);

/** What holds for every plan; gives what is wrong, so that a failure shows the text. */
function faultsOf(text: string, options: Parameters<typeof planText>[1]): readonly string[] {
  const plan = planText(text, options);
  const faults: string[] = [];
  for (const segment of plan.segments) {
    if (segment.length > options.maxCharacters) faults.push(`${segment.length} characters: ${segment}`);
    if (!/\p{L}/u.test(segment)) faults.push(`no letter: ${segment}`);
    // Control characters, the line breaks among them; line and paragraph separators; halves of surrogate pairs.
    if (/\p{Cc}|\p{Zl}|\p{Zp}|\p{Cs}/u.test(segment)) faults.push(`line break or control character: ${segment}`);
    if (/^\s(?!\p{M}|\u200d)|\s$/u.test(segment)) faults.push(`white space at an end: ${segment}`);
  }
  const identity = plan.assemble(plan.segments);
  if (identity.text !== text) faults.push(`not the text: ${identity.text}`);
  if (identity.lost.length > 0) faults.push(`lost: ${identity.lost}`);
  return faults.map((fault) => `${JSON.stringify(fault)} in ${JSON.stringify(text)} at ${JSON.stringify(options)}`);
}

describe("an identity provider gives back the text, byte for byte, in segments that keep their promises", () => {
  it("for the bundled sample in nine languages", async () => {
    let segments = 0;
    for (const language of ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"]) {
      const { records } = await readAlpaca(join(sampleDir, `alpaca.${language}.json`));
      for (const text of records.flatMap(({ instruction, input, output }) => [instruction, input, output])) {
        for (const options of optionsOfAllKinds) expect(faultsOf(text, { language, ...options })).toEqual([]);
        segments += planText(text, { language, maxCharacters: 500 }).segments.length;
      }
    }
    expect(segments).toBeGreaterThan(9 * 60 * 2);
  });

  it("for the public Alpaca files and the study's prompts", async ({ skip }) => {
    if (!existsSync(realDataDir)) skip("../shared/data is not there");
    for (const language of ["en", "zh"]) {
      const { records } = await readAlpaca(join(realDataDir, `alpaca_${language}_demo.json`));
      for (const text of records.flatMap(({ instruction, input, output }) => [instruction, input, output])) {
        for (const options of [{ maxCharacters: 30, joinSentences: false }, { maxCharacters: 500 }])
          expect(faultsOf(text, { language, ...options })).toEqual([]);
      }
    }
    for (const language of ["bg", "bn", "cs", "en", "es", "fi", "fr", "hi", "no", "ru", "zh"]) {
      const { prompts } = await readPrompts([join(realDataDir, `test-data/test_${language}.jsonl`)], { skipBadRecords: true });
      for (const { prompt } of prompts) {
        for (const options of optionsOfAllKinds) expect(faultsOf(prompt, { language, ...options })).toEqual([]);
      }
    }
  });

  it("for generated texts of everything that is hard", () => {
    const next = numbersFrom(20240501);
    for (let i = 0; i < 4000; i++) {
      const language = ["en", "zh", "ar", "th"][next(4)]!;
      expect(faultsOf(randomText(next), { language, ...optionsOfAllKinds[next(optionsOfAllKinds.length)]! })).toEqual([]);
    }
  });

  it("for texts of one kind of character, however long", () => {
    for (const unit of [
      "a",
      "\u0301",
      "e\u0301\u0302",
      "👨‍👩‍👧‍👦",
      "🇫🇮",
      "क्ष",
      "각",
      "植",
      "[1]",
      "`",
      "{",
      "\ud800",
      "\ue000",
      " ",
      "\r",
      "```\n",
      "<!--",
      "$x",
    ]) {
      expect(faultsOf(unit.repeat(700), { language: "en", maxCharacters: 100 })).toEqual([]);
    }
  });
});

describe("cuts", () => {
  /** Where segments begin and end in the text. The signs are of a script without spaces, so that none is put between them. */
  const cutsOf = (text: string, options: Parameters<typeof planText>[1]): readonly number[] => {
    const plan = planText(text, options);
    const signed = plan.assemble(plan.segments.map((segment) => `〈${segment}〉`)).text;
    const cuts: number[] = [];
    let signs = 0;
    for (let i = 0; i < signed.length; i++) {
      if (signed[i] === "〈" || signed[i] === "〉") cuts.push(i - signs++);
    }
    return cuts;
  };

  it("never split a grapheme cluster", () => {
    const next = numbersFrom(7);
    const clusters = new Intl.Segmenter("en", { granularity: "grapheme" });
    for (let i = 0; i < 3000; i++) {
      const text = randomText(next);
      const boundaries = new Set([text.length, ...Array.from(clusters.segment(text), ({ index }) => index)]);
      const inside = cutsOf(text, { language: "en", ...optionsOfAllKinds[next(optionsOfAllKinds.length)]! }).filter(
        (cut) => !boundaries.has(cut),
      );
      expect(inside, JSON.stringify(text)).toEqual([]);
    }
  });

  it("fall behind sentences, as many of which make a segment as the limit holds", () => {
    const text = "One two three. Four five six? Seven eight nine! Ten.";
    expect(planText(text, { language: "en", maxCharacters: 32 }).segments).toEqual([
      "One two three. Four five six?",
      "Seven eight nine! Ten.",
    ]);
    expect(planText(text, { language: "en", maxCharacters: 500 }).segments).toEqual([text]);
    expect(planText(text, { language: "en", maxCharacters: 500, joinSentences: false }).segments).toEqual([
      "One two three.",
      "Four five six?",
      "Seven eight nine!",
      "Ten.",
    ]);
  });

  it("do not take an abbreviation for the end of a sentence", () => {
    const text = "Mr. Smith met Dr. Jones in St. Louis. They read J. K. Rowling, e.g. Harry Potter.";
    expect(planText(text, { language: "en", maxCharacters: 500, joinSentences: false }).segments).toEqual([
      "Mr. Smith met Dr. Jones in St. Louis.",
      "They read J. K. Rowling, e.g. Harry Potter.",
    ]);
  });

  it("fall behind clauses, then spaces, then words, then grapheme clusters, where a sentence is too long", () => {
    const cut = (text: string, language = "en"): readonly string[] => planText(text, { language, maxCharacters: 16 }).segments;
    expect(cut("When it rains, we stay at home.")).toEqual(["When it rains,", "we stay at home."]);
    expect(cut("When it rains we stay at home.")).toEqual(["When it rains we", "stay at home."]);
    // The segmenter knows Chinese words: none is cut in two.
    const words = cut("我们在图书馆里学习人工智能和机器翻译的基础知识", "zh");
    expect(words.join("")).toBe("我们在图书馆里学习人工智能和机器翻译的基础知识");
    expect(words[0]).toMatch(/(?:学习|人工|智能|人工智能|里|和|机器)$/);
    expect(cut("x".repeat(20))).toEqual(["x".repeat(16), "xxxx"]);
    expect(cut("e\u0301".repeat(9))).toEqual(["e\u0301".repeat(8), "e\u0301"]);
  });

  it("leave out a grapheme cluster that is longer than the limit", () => {
    const { segments, kept } = layout(`before ${`a${"\u0301".repeat(30)}`} after`, { language: "en", maxCharacters: 16 });
    expect(segments).toEqual(["before", "after"]);
    expect(kept).toBe(`· a${"\u0301".repeat(30)} ·`);
  });

  it("never fall inside a mark, whose width counts", () => {
    const text = `See ${Array.from({ length: 12 }, (_, i) => `https://example.org/${i}`).join(" ")} now`;
    const plan = planText(text, { language: "en", maxCharacters: 16 });
    for (const segment of plan.segments) expect(segment).toMatch(/^(?:See )?(?:\[\d\] ?)*(?:now)?$/);
    expect(plan.assemble(plan.segments).text).toBe(text);
  });

  it("put a space between translations where Chinese had none and the other language needs one", () => {
    const plan = planText("你好。我很好！再见。", { language: "zh", maxCharacters: 100, joinSentences: false });
    expect(plan.segments).toEqual(["你好。", "我很好！", "再见。"]);
    expect(plan.assemble(["Hello.", "I am well!", "Bye."]).text).toBe("Hello. I am well! Bye.");
    expect(plan.assemble(["こんにちは。", "元気です！", "さようなら。"]).text).toBe("こんにちは。元気です！さようなら。");
  });
});

describe("what is kept out of segments", () => {
  it.each([
    ["code blocks", "Run this:\n```js\nconst a = 1;\n```\nDone.", ["Run this:", "Done."], "·\n```js\nconst a = 1;\n```\n·"],
    [
      "a code block with other line ends",
      "Run:\r\n~~~\r\ntext here\r\n~~~\r\nDone.",
      ["Run:", "Done."],
      "·\r\n~~~\r\ntext here\r\n~~~\r\n·",
    ],
    ["a code block that is never closed", "Run:\n```\ntext here\nmore", ["Run:"], "·\n```\ntext here\nmore"],
    ["a longer fence around a shorter one", "````\n```\ninner text\n```\n````\nDone.", ["Done."], "````\n```\ninner text\n```\n````\n·"],
    ["a code block in a list", "1. ```sh\n   ls it\n   ```\n2. Next", ["Next"], "1. ```sh\n   ls it\n   ```\n2. ·"],
    ["a code block that opens behind words", "Use: ```py\nprint(x)\n``` here", ["Use:", "here"], "· ```py\nprint(x)\n``` ·"],
    [
      "line breaks of all kinds",
      "one\ntwo\r\nthree\rfour\u2028five\n\n\nsix",
      ["one", "two", "three", "four", "five", "six"],
      "·\n·\r\n·\r·\u2028·\n\n\n·",
    ],
    ["white space at both ends", "  \t one \u00a0\n\u3000two ", ["one", "two"], "  \t · \u00a0\n\u3000· "],
    [
      "list markers",
      "1. one\n2) two\n- three\n* four\n• five\n(6) six\na) seven\n一、八\n① nine",
      ["one", "two", "three", "four", "five", "six", "seven", "八", "nine"],
      "1. ·\n2) ·\n- ·\n* ·\n• ·\n(6) ·\na) ·\n一、·\n① ·",
    ],
    [
      "headings, quotation marks of mail, boxes to tick",
      "## Title\n> quoted\n- [x] done",
      ["Title", "quoted", "done"],
      "## ·\n> ·\n- [x] ·",
    ],
    ["mark-up at both ends of a line", "<li><b>One item</b></li>", ["One item"], "<li><b>·</b></li>"],
    [
      "the bars of tables and tabs",
      "| Name | Age |\n|---|:-:|\nAnna\told\nBo | young",
      ["Name", "Age", "Anna", "old", "Bo", "young"],
      "| · | · |\n|---|:-:|\n·\t·\n· | ·",
    ],
    [
      "lines without a letter",
      "2 + 2 = 4\n---\n👍\nhttps://example.org\n`code`\n{name}",
      [],
      "2 + 2 = 4\n---\n👍\nhttps://example.org\n`code`\n{name}",
    ],
    ["control characters and halves of surrogate pairs", "a\0b \ud800c\x1b[0m", ["a", "b", "c", "[0m"], "·\0· \ud800·\x1b·"],
    [
      "comments and preformatted text of pages",
      "<!-- a note -->One<pre>two\nthree</pre>",
      ["One"],
      "<!-- a note -->·<pre>two\nthree</pre>",
    ],
    [
      "lines of code without a fence",
      "Here it is:\ndef add(a, b):\n    return a + b\n\nprint(add(1, 2))\nIt adds.",
      ["Here it is:", "It adds."],
      "·\ndef add(a, b):\n    return a + b\n\nprint(add(1, 2))\n·",
    ],
    ["nothing of an empty text", "", [], ""],
  ])("%s", (_, text, segments, kept) => {
    expect(layout(text)).toEqual({ segments, kept });
  });

  it.each([
    ["a year at the begin of a line", "1984 was a year. It was long.", "1984 was a year. It was long."],
    ["words with a hyphen", "-ish is a suffix", "-ish is a suffix"],
    ["signs that only look like mark-up", "if a <b and c> d then", "if a <b and c> d then"],
    ["a blank for the reader to fill in", "Dear [Your Name], dear <your name>", "Dear [Your Name], dear <your name>"],
    ["numbers, prices and shares", "It costs $5 and $10, 50% of 1,234.56 km/h", "It costs $5 and $10, 50% of 1,234.56 km/h"],
    ["either of two words", "and/or, he/she", "and/or, he/she"],
  ])("but not %s", (_, text, segment) => {
    expect(planText(text, english).segments).toEqual([segment]);
  });
});

describe("protected pieces inside a sentence", () => {
  it.each(protectedPieces)("%s is masked, and put back whatever happens to the words", (piece) => {
    const text = `We show ${piece} to you, and more.`;
    const plan = planText(text, english);
    expect(plan.segments).toEqual(["We show [1] to you, and more."]);
    for (const change of [(s: string) => s.toUpperCase(), (s: string) => s.toLowerCase(), (s: string) => `${s} ${s.length}`]) {
      const { text: changed, lost } = plan.assemble(plan.segments.map(change));
      expect(changed).toContain(` ${piece} `);
      expect(lost).toEqual([]);
    }
  });

  it("follow their marks when the translation has another order", () => {
    const { text, lost } = translate("Send {name} to a@b.org or `me`.", () => "[3] oder [1], an [2].");
    expect(text).toBe("`me` oder {name}, an a@b.org.");
    expect(lost).toEqual([]);
  });

  it.each([
    ["spaces inside", "Siehe [ 1 ] und [2 ]."],
    ["full-width forms", "Siehe ［１］ und 【２】."],
    ["digits of another script", "Siehe [١] und [२]."],
    ["other brackets where the segment has none", "Siehe (1) und « 2 »."],
    ["one in other brackets", "Siehe [1] und {2}."],
  ])("are found in a mark with %s", (_, translation) => {
    const { text, lost } = translate("See {a} and {b}.", () => translation);
    expect(text).toBe("Siehe {a} und {b}.");
    expect(lost).toEqual([]);
  });

  it("are not put in place of a number in brackets that the segment had itself", () => {
    const { text, lost } = translate("See {a} in (1) now.", () => "Siehe in (1).");
    expect(text).toBe("Siehe in (1).");
    expect(lost).toEqual(["{a}"]);
  });

  it("are reported when their mark is gone, and a mark of nothing stays", () => {
    const { text, lost } = translate("See {a} and {b}.", () => "Siehe [2] und [7].");
    expect(text).toBe("Siehe {b} und [7].");
    expect(lost).toEqual(["{a}"]);
  });

  it("are counted anew in each segment, so that sentences which differ only in them are one", () => {
    expect(planText("Open a.txt now.\nOpen b.txt now.", english).segments).toEqual(["Open [1] now.", "Open [1] now."]);
  });

  it("survive everything together in generated texts", () => {
    const next = numbersFrom(99);
    for (let i = 0; i < 1500; i++) {
      const pieces = Array.from({ length: 1 + next(5) }, () => protectedPieces[next(protectedPieces.length)]!);
      const text = pieces.map((piece, k) => `word${String.fromCharCode(97 + k)} ${piece}`).join(" ");
      const { text: changed, lost } = translate(text, (segment) => segment.toUpperCase(), { language: "en", maxCharacters: 16 + next(60) });
      expect(lost).toEqual([]);
      expect(changed).toBe(pieces.map((piece, k) => `WORD${String.fromCharCode(65 + k)} ${piece}`).join(" "));
    }
  });
});

describe("translations", () => {
  it("bring no white space of their own to the ends, and no line breaks", () => {
    expect(translate("- one two\n", () => "\n eins \r\n zwei \u3000").text).toBe("- eins zwei\n");
  });

  it("are refused in another number", () => {
    expect(() => planText("one\ntwo", english).assemble(["eins"])).toThrowError(/1 translations for 2 segments/);
  });

  it("need a limit that holds a mark", () => {
    for (const maxCharacters of [0, 15, Number.NaN]) {
      expect(() => planText("one", { language: "en", maxCharacters })).toThrowError(/maxCharacters is .*16 or more/);
    }
  });
});
