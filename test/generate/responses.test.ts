import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { decodingPresets } from "../../src/generate/decoding.js";
import { planBatches } from "../../src/generate/plan-batches.js";
import { type ResponseRow, ResponsesFile } from "../../src/generate/responses.js";

let path: string;
beforeEach(() => {
  path = join(mkdtempSync(join(tmpdir(), "polypaca-responses-")), "deep/responses.jsonl");
});

function row(id: number, language = "en"): ResponseRow {
  const system = { system: "s", model: "m", method: "lora", condition: null, seed: 42 } as const;
  return { id, language, ...system, prompt: `p${id}`, response: "r\nü", tokens: 3, finishReason: "stop" };
}

function append(...rows: ResponseRow[]): void {
  const file = ResponsesFile.open(path);
  for (const each of rows) file.append(each);
  file.close();
}

function idsOnDisk(): string[] {
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as ResponseRow).map(({ language, id }) => `${language}${id}`);
}

describe("ResponsesFile", () => {
  it("appends rows over several runs, each exactly once", () => {
    append(row(1), row(2));
    append(row(2), row(3), row(2, "fr"));
    expect(idsOnDisk()).toEqual(["en1", "en2", "en3", "fr2"]);
  });

  it('keeps id 1 and id "1" apart', () => {
    append(row(1));
    const file = ResponsesFile.open(path);
    expect([file.has(row(1)), file.has({ ...row(1), id: "1" })]).toEqual([true, false]);
    file.close();
  });

  it("drops a line that a kill cut off and takes its row again", () => {
    append(row(1));
    appendFileSync(path, JSON.stringify(row(2)).slice(0, 40));
    append(row(2));
    expect(idsOnDisk()).toEqual(["en1", "en2"]);
  });

  it("refuses a file of something else by line", () => {
    append(row(1));
    appendFileSync(path, '{"instruction":"x"}\n');
    expect(() => ResponsesFile.open(path)).toThrow(
      expect.objectContaining({ code: "BAD_RECORD", message: expect.stringContaining("line 2") }),
    );
  });

  it("names --out where it cannot be written", () => {
    append(row(1));
    writeFileSync(`${path}.file`, "");
    expect(() => ResponsesFile.open(`${path}.file/below`)).toThrow(/^--out .*cannot be written/);
  });
});

describe("planBatches", () => {
  it("puts prompts of like length together, longest first, ties in input order", () => {
    expect(planBatches([3, 9, 3, 5, 9], 2)).toEqual([[1, 4], [3, 0], [2]]);
  });

  it("holds every prompt exactly once", () => {
    const lengths = Array.from({ length: 101 }, (_, index) => (index * 37) % 13);
    expect(
      planBatches(lengths, 8)
        .flat()
        .sort((a, b) => a - b),
    ).toEqual(lengths.map((_, index) => index));
  });
});

describe("decodingPresets", () => {
  it("are the study's: beam search with 4 beams, FFT with a repetition penalty", () => {
    expect(decodingPresets["paper-lora"]).toMatchObject({ numBeams: 4, maxNewTokens: 256, noRepeatNgramSize: 6, repetitionPenalty: 1 });
    expect(decodingPresets["paper-fft"]).toMatchObject({ numBeams: 4, maxNewTokens: 256, noRepeatNgramSize: 6, repetitionPenalty: 1.1 });
  });
});
