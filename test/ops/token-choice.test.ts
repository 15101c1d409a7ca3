import { describe, expect, it } from "vitest";
import { expectClose, expectSame } from "../expect-close.js";
import { RandomValues } from "../reference/random-values.js";
import { type Changes, chooseTokens } from "../reference/token-choice.js";
import { tolerance } from "../tolerances.js";
import { probe, probeRepeatedly, rounded } from "./probe.js";

const none: Changes = { logProbabilities: false, repetitionPenalty: 1, penalised: new Int32Array(), banned: new Int32Array() };

/** Some distinct tokens of every row, rows ascending. */
function somePairs(random: RandomValues, rows: number, V: number, perRow: number): Int32Array {
  const pairs = Array.from({ length: rows }, (_, r) => {
    const tokens = new Set(Array.from({ length: Math.min(perRow, V) }, () => random.integer(V)));
    return [...tokens].flatMap((token) => [r, token]);
  });
  return Int32Array.from(pairs.flat());
}

const cases = [
  { rows: 1, V: 1, count: 1 },
  { rows: 1, V: 37, count: 37 },
  { rows: 5, V: 1001, count: 1 },
  { rows: 7, V: 2049, count: 8 },
  { rows: 2, V: 32_003, count: 128 },
  { rows: 2, V: 250_880, count: 8 },
].map((shape) => ({ padding: 1, ...shape }));

describe.each(cases)("choose_tokens rows=$rows V=$V count=$count", ({ rows, V, count, padding }) => {
  const random = new RandomValues(rows + V);
  // bf16 values: many ties, which the smaller token must win.
  const scores = rounded(random.normal(rows * V, 3), "bf16");

  it("finds the best in order, ties to the smaller token, and leaves the scores alone", () => {
    const expected = chooseTokens(scores, V, count, none);
    const result = probe("choose_tokens", { ...none, scores, V, count, padding });
    expectSame(result.tokens, Float32Array.from(expected.tokens));
    expectSame(result.best, Float32Array.from(expected.best));
    expectSame(result.scores, scores);
    expectClose(result.logSums, expected.logSums, tolerance("crossEntropy", "fp32", "forward"));
  });

  it("penalises and bans before it looks for the best", () => {
    const changes: Changes = {
      logProbabilities: false,
      repetitionPenalty: 1.25, // with bf16 scores every product and most quotients are exact enough to keep the order
      penalised: somePairs(random, rows, V, 20),
      banned: somePairs(random, rows, V, 3),
    };
    const result = probe("choose_tokens", { ...changes, scores, V, count, padding });
    const expected = chooseTokens(scores, V, count, changes);
    expectClose(finite(result.scores!), finite(expected.scores), tolerance("copy", "fp32", "forward"));
    expectBestOf(result, V, count);
  });

  it("gives log-probabilities, which are penalised downwards", () => {
    const changes: Changes = { ...none, logProbabilities: true, repetitionPenalty: 1.25, penalised: somePairs(random, rows, V, 20) };
    const result = probe("choose_tokens", { ...changes, scores, V, count, padding });
    const expected = chooseTokens(scores, V, count, changes);
    expectClose(result.scores, expected.scores, tolerance("crossEntropy", "fp32", "forward"));
    expectBestOf(result, V, count);
  });
});

/** The scores that came back, put in order here, are the best that came back. */
function expectBestOf({ scores, best, tokens }: Record<string, Float32Array>, V: number, count: number): void {
  const expected = chooseTokens(scores!, V, count, none);
  expectSame(tokens, Float32Array.from(expected.tokens));
  expectSame(best, Float32Array.from(expected.best));
}

function finite(values: ArrayLike<number>): Float64Array {
  return Float64Array.from(values, (value) => (value === Number.NEGATIVE_INFINITY ? -1e30 : value));
}

describe("choose_tokens", () => {
  it("bans a token that is penalised too", () => {
    const pair = Int32Array.of(0, 1);
    const changes = { ...none, repetitionPenalty: 2, penalised: pair, banned: pair };
    const { scores, tokens } = probe("choose_tokens", { ...changes, scores: Float32Array.of(1, 8, 2), V: 3, count: 3 });
    expect([...scores!]).toEqual([1, Number.NEGATIVE_INFINITY, 2]);
    expect([...tokens!]).toEqual([2, 0, 1]);
  });

  it("never chooses NaN: the rest is -inf and token -1", () => {
    const { best, tokens } = probe("choose_tokens", { ...none, scores: Float32Array.of(Number.NaN, 3, Number.NaN), V: 3, count: 2 });
    expect([...best!]).toEqual([3, Number.NEGATIVE_INFINITY]);
    expect([...tokens!]).toEqual([1, -1]);
  });

  it("changes scores where no best is asked for", () => {
    const { scores, best } = probe("choose_tokens", {
      ...none,
      banned: Int32Array.of(1, 0),
      scores: Float32Array.of(1, 2, 3, 4),
      V: 2,
      count: 0,
    });
    expect([...scores!]).toEqual([1, 2, Number.NEGATIVE_INFINITY, 4]);
    expect(best).toHaveLength(0);
  });

  it("gives the same bits in every order of threads", () => {
    const [rows, V, count] = [3, 1500, 20];
    const scores = rounded(new RandomValues(8).normal(rows * V, 1), "bf16");
    const result = probeRepeatedly("choose_tokens", { ...none, logProbabilities: true, scores, V, count });
    expectBestOf(result, V, count);
  });
});
