import { describe, expect, it } from "vitest";
import { readPrompts } from "../../src/data/index.js";
import { dataFile } from "./data-folder.js";

describe("a malformed prompt", () => {
  const content = '{"id": 1, "prompt": "a"}\n{"id": 2, "prompt": "b""}\n';

  it("is refused with the advice to skip it by a command that can, and to correct it by others", async () => {
    const file = await dataFile("test_hi.jsonl", content);
    await expect(readPrompts([file], { mend: "Correct it." })).rejects.toThrow(
      /line 2, column 24: .*a second closing quote.*\. Correct it\.$/,
    );
    await expect(readPrompts([file], { skipBadRecords: false })).rejects.toThrow(/or pass --skip-bad-records/);
  });
});
