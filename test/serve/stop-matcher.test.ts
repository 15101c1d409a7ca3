import { describe, expect, it } from "vitest";
import { StopMatcher } from "../../src/serve/stop-matcher.js";
import { numbersFrom } from "../data/data-folder.js";

function run(stops: readonly string[], pieces: readonly string[]): { readonly text: string; readonly isStopped: boolean } {
  const matcher = new StopMatcher(stops);
  const text = pieces.map((piece) => matcher.push(piece)).join("") + matcher.end();
  return { text, isStopped: matcher.isStopped };
}

/** Character by character: the stop string that is complete first ends the text. */
function slowly(stops: readonly string[], text: string): { readonly text: string; readonly isStopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (complete !== undefined) return { text: text.slice(0, end - complete.length), isStopped: true };
  }
  return { text, isStopped: false };
}

describe("StopMatcher", () => {
  it("gives the text before a stop string that is spread over pieces", () => {
    expect(run(["\n### "], ["Hello\n", "##", "# Instruction"])).toEqual({ text: "Hello", isStopped: true });
  });

  it("holds back what may be a beginning, and gives it when it is none", () => {
    const matcher = new StopMatcher(["STOP"]);
    expect([matcher.push("a ST"), matcher.push("O"), matcher.push("R")]).toEqual(["a ", "", "STOR"]);
  });

  it("finds a stop string whose beginning repeats", () => {
    expect(run(["aab"], ["a", "a", "a", "b"])).toEqual({ text: "a", isStopped: true });
  });

  it("gives what was held back at the end", () => {
    expect(run(["END"], ["the EN"])).toEqual({ text: "the EN", isStopped: false });
  });

  it("gives nothing after a stop", () => {
    const matcher = new StopMatcher(["."]);
    expect([matcher.push("a.b"), matcher.push("c."), matcher.end()]).toEqual(["a", "", ""]);
  });

  it("passes everything on where there is nothing to stop at", () => {
    expect(run([], ["a", "b"])).toEqual({ text: "ab", isStopped: false });
  });

  it("agrees with a search character by character, however the text is cut", () => {
    const draw = numbersFrom(1);
    const word = (length: number): string => Array.from({ length }, () => "ab\n"[draw(3)]).join("");
    let stopped = 0;
    for (let round = 0; round < 3_000; round++) {
      const stops = Array.from({ length: draw(4) }, () => word(1 + draw(5)));
      const pieces = Array.from({ length: draw(8) }, () => word(draw(4)));
      const found = run(stops, pieces);
      expect(found, JSON.stringify({ stops, pieces })).toEqual(slowly(stops, pieces.join("")));
      if (found.isStopped) stopped++;
    }
    expect(stopped).toBeGreaterThan(500);
  });
});
