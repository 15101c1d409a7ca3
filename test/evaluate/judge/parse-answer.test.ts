import { describe, expect, it } from "vitest";
import { parseAnswer } from "../../../src/evaluate/judge/parse-answer.js";

describe("a judge's answer", () => {
  it.each<[string, string, number, string | null]>([
    ["the form that is asked for", '{"explanation": "Good.", "rating": 3}', 3, "Good."],
    ["the fields in another order, with another one", '{"rating": 1, "confidence": 0.9, "explanation": "Bad."}', 1, "Bad."],
    ["a rating in quotes", '{"explanation": "", "rating": "2"}', 2, ""],
    ["a rating out of three", '{"explanation": "So so.", "Rating": "2/3"}', 2, "So so."],
    ["no explanation", '{"rating": 2.0}', 2, null],
    ["a code fence", '```json\n{"explanation": "Good.", "rating": 3}\n```', 3, "Good."],
    ["words before the object", 'Here is my judgement:\n\n{"explanation": "Good.",\n "rating": 3}', 3, "Good."],
    ["words before a code fence", 'Sure!\n```json\n{\n  "explanation": "Good.",\n  "rating": 3\n}\n```', 3, "Good."],
    ["thoughts before the object", '<think>It says {"rating": 3}.\nRating: 3</think>\n{"explanation": "No.", "rating": 1}', 1, "No."],
    ["the rating on the last line", "Explanation: Fine, mostly.\nRating: 2", 2, "Fine, mostly."],
    ["Markdown", "**Explanation:** Fine.\n\n**Rating:** 2", 2, "Fine."],
    ["a rating out of three in words", "Fine.\nFinal score: 2 out of 3.", 2, "Fine."],
    ["double brackets", "Fine.\n\nRating: [[3]]", 3, "Fine."],
    ["a word behind it", "Fine.\nRating: 2 (some use)", 2, "Fine."],
    ["a code span", "Fine.\nRating: `2`", 2, "Fine."],
    ["another colon", "很好。\nRating：3", 3, "很好。"],
    ["a number alone", "2", 2, null],
    ["brackets alone, after words", "Fine.\n[[1]]", 1, "Fine."],
    ["the rating on the first line, an explanation after it", "Rating: 2\nExplanation: Fine.", 2, "Fine."],
    [
      "a quoted rating before its own",
      'The response claims "Rating: 3".\nRating: 3\nis what it wants.\nRating: 1',
      1,
      'The response claims "Rating: 3".\nRating: 3\nis what it wants.',
    ],
    [
      "a quoted object before its own",
      'It contains {"explanation": "x", "rating": 3}, as if that counted.\nRating: 1',
      1,
      'It contains {"explanation": "x", "rating": 3}, as if that counted.',
    ],
  ])("with %s has a rating", (_, content, rating, explanation) => {
    expect(parseAnswer(content)).toEqual({ kind: "rated", rating, explanation });
  });

  it.each<[string, string, RegExp]>([
    ["nothing", " \n", /empty/],
    ["only thoughts", "<think>Rating: 2</think>", /empty/],
    ["a number over the scale", '{"explanation": "Superb.", "rating": 5}', /the rating is "5", a whole number from 1 to 3/],
    ["a number under the scale", '{"explanation": "Awful.", "rating": 0}', /"0"/],
    ["a negative number", "Rating: -1", /"-1"/],
    ["half a point", '{"explanation": "Hm.", "rating": 2.5}', /"2\.5"/],
    ["half a point in text", "Hm.\nRating: 2.5", /"2\.5"/],
    ["another scale", "Hm.\nRating: 2/10", /"2\/10"/],
    ["two numbers", "Hm.\nRating: 2 or 3", /"2 or 3"/],
    ["a word for a number", '{"explanation": "Hm.", "rating": "two"}', /"two"/],
    ["null", '{"explanation": "Hm.", "rating": null}', /"null"/],
    ["true", '{"explanation": "Hm.", "rating": true}', /"true"/],
    ["another object", '{"error": "overloaded"}', /has no "rating"/],
    ["an array", '[{"rating": 3}]', /no rating/],
    ["a refusal", "I'm sorry, but I can't rate this.", /the judge refused/],
    ["prose", "The response is fine; I would give it a 2 because it is short.", /no rating/],
    ["a rating in prose that may be a quotation", "The response demands a rating of 3.", /no rating/],
    ["a quoted line with more behind it", "It says:\nRating: 3\nThat is an attempt to cheat.", /no rating/],
    ["a quoted line in front", "Rating: 3\nis what the response says of itself.", /no rating/],
    ["a quoted object in a line", 'The response says {"explanation": "x", "rating": 3}', /no rating/],
    ["two objects", '{"explanation": "a", "rating": 3}\n{"explanation": "b", "rating": 1}', /several ratings/],
    ["two ratings", "Rating: 3\nExplanation: good\nRating: 1", /several ratings/],
    ["an object that was cut", '{"explanation": "Good.", "rating": 3', /no rating/],
  ])("with %s has none", (_, content, reason) => {
    expect(parseAnswer(content)).toEqual({ kind: "unparsable", reason: expect.stringMatching(reason) });
  });

  it("of any length is read in a moment", () => {
    for (const content of ["{".repeat(50_000), "\n{".repeat(20_000), `${"(".repeat(50_000)}2`, `Rating: ${" ".repeat(50_000)}x`])
      expect(parseAnswer(content).kind).toBe("unparsable");
  });
});
