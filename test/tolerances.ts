/**
 * Every threshold of the op tests, and the only place for them.
 *
 * A value passes where |actual - expected| <= atol * scale + rtol * |expected|, with scale the largest |expected| of the array:
 * rounding in a reduction is relative to the terms that went in, not to what is left of them.
 */
import type { ComputeDType } from "../src/native/addon-types.js";

export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
  readonly reason: string;
}

/** Half a unit in the last place, relative: fp32 has 24 significant bits, bf16 8. */
export const unitRoundoff: Readonly<Record<ComputeDType, number>> = { fp32: 2 ** -24, bf16: 2 ** -8 };

interface Rule {
  /** In unit roundoffs of the dtype. */
  readonly atol: number;
  readonly rtol: number;
  /** Whether fp32's atol grows with the square root of the reduction length, as independent rounding errors do. */
  readonly growth: "none" | "sqrt";
  readonly reason: string;
}

type Direction = "forward" | "backward";

const rules = {
  copy: {
    forward: both({ atol: 0, rtol: 1, growth: "none", reason: "one rounding to the stored type" }),
    backward: both({ atol: 0, rtol: 1, growth: "none", reason: "one rounding to the stored type" }),
  },
  sum: {
    forward: both({ atol: 1, rtol: 1, growth: "sqrt", reason: "a sum kept in fp32" }),
    backward: both({ atol: 1, rtol: 1, growth: "sqrt", reason: "a sum kept in fp32" }),
  },
  norm: {
    forward: both({
      atol: 2,
      rtol: 4,
      growth: "none",
      reason: "mean, centring, rstd, weight and bias round once each; statistics are double",
    }),
    backward: both({ atol: 8, rtol: 4, growth: "none", reason: "three terms that cancel in part, each of a few roundings" }),
  },
  normWeight: {
    forward: both({ atol: 0, rtol: 0, growth: "none", reason: "has no forward of its own" }),
    backward: both({
      atol: 4,
      rtol: 2,
      growth: "sqrt",
      reason: "a sum of dy xhat kept in fp32, where xhat carries the roundings of mean, centring and rstd",
    }),
  },
  activation: {
    forward: {
      fp32: { atol: 4, rtol: 4, growth: "none", reason: "exp, erf of 2 ulp; 1 + erf cancels on the left" },
      bf16: { atol: 2 ** -14, rtol: 1, growth: "none", reason: "one rounding to bf16; fp32's own error on the left" },
    },
    backward: {
      fp32: { atol: 8, rtol: 8, growth: "none", reason: "two terms of opposite sign around the minimum" },
      bf16: { atol: 0.01, rtol: 1, growth: "none", reason: "fp32 arithmetic, one rounding to bf16" },
    },
  },
  linear: {
    forward: {
      fp32: { atol: 2, rtol: 2, growth: "sqrt", reason: "fp32 accumulation over the inputs" },
      bf16: { atol: 1, rtol: 2, growth: "none", reason: "products exact in fp32; the adapter's share may be added to a rounded result" },
    },
    backward: {
      fp32: { atol: 2, rtol: 2, growth: "sqrt", reason: "fp32 accumulation over tokens or outputs" },
      bf16: { atol: 1, rtol: 2, growth: "none", reason: "products exact in fp32; where dx adds, one more rounding" },
    },
  },
  lora: {
    forward: {
      fp32: { atol: 2, rtol: 2, growth: "sqrt", reason: "fp32 accumulation" },
      bf16: { atol: 2, rtol: 2, growth: "none", reason: "the masked input is rounded to bf16 once more" },
    },
    backward: {
      fp32: { atol: 2, rtol: 2, growth: "sqrt", reason: "fp32 accumulation" },
      bf16: { atol: 2, rtol: 2, growth: "none", reason: "the masked input is rounded to bf16 once more; dx is added to a rounded value" },
    },
  },
  attention: {
    forward: {
      fp32: { atol: 8, rtol: 8, growth: "sqrt", reason: "scores in fp32, exp of 2 ulp, running rescaling" },
      bf16: { atol: 2, rtol: 2, growth: "none", reason: "rotated q and k, probabilities and output are rounded to bf16" },
    },
    backward: {
      fp32: { atol: 16, rtol: 16, growth: "sqrt", reason: "probabilities from lse, dP - delta cancels" },
      bf16: { atol: 4, rtol: 4, growth: "none", reason: "P, dS and the saved output are rounded to bf16; dP - delta cancels" },
    },
  },
  logSumExp: {
    forward: {
      fp32: { atol: 8, rtol: 8, growth: "none", reason: "scores of a few units; exp and log of 2 ulp" },
      bf16: { atol: 2, rtol: 1, growth: "none", reason: "q and k are rounded to bf16 after rotation" },
    },
    backward: both({ atol: 0, rtol: 0, growth: "none", reason: "has no backward of its own" }),
  },
  crossEntropy: {
    forward: {
      fp32: { atol: 4, rtol: 4, growth: "none", reason: "exp of 2 ulp, sums end in double" },
      bf16: { atol: 2 ** -14, rtol: 2 ** -14, growth: "none", reason: "losses are fp32 whatever the logits are" },
    },
    backward: {
      fp32: { atol: 16, rtol: 64, growth: "none", reason: "logit - maximum rounds at the size of the logits before exp" },
      bf16: { atol: 0, rtol: 1, growth: "none", reason: "fp32 arithmetic, one rounding to bf16" },
    },
  },
  normalizedHead: {
    forward: both({ atol: 0, rtol: 6, growth: "none", reason: "squares summed in fp32 lanes, square root, two products" }),
    backward: {
      fp32: { atol: 8, rtol: 8, growth: "none", reason: "d_hat minus its part along w_hat" },
      bf16: { atol: 4, rtol: 4, growth: "none", reason: "w_hat is rounded to bf16" },
    },
  },
  adamw: {
    forward: both({ atol: 4, rtol: 8, growth: "none", reason: "about eight roundings per element" }),
    backward: both({ atol: 0, rtol: 0, growth: "none", reason: "has no backward" }),
  },
} as const satisfies Record<string, Record<Direction, Record<ComputeDType, Rule>>>;

function both(rule: Rule): Record<ComputeDType, Rule> {
  return { fp32: rule, bf16: rule };
}

export type ToleratedOp = keyof typeof rules;

/**
 * @param dtype of the compared output where that is rounded to it, else of the values that went in
 * @param reductionLength terms in the longest sum
 */
export function tolerance(op: ToleratedOp, dtype: ComputeDType, direction: Direction, reductionLength = 1): Tolerance {
  const rule: Rule = rules[op][direction][dtype];
  const unit = unitRoundoff[dtype];
  const growth = rule.growth === "sqrt" && dtype === "fp32" ? Math.sqrt(reductionLength) : 1;
  return { atol: rule.atol * unit * growth, rtol: rule.rtol * unit, reason: rule.reason };
}
