import { PolypacaError } from "../errors.js";
import { CounterRandom, permutation, randomPurpose } from "./philox.js";

export interface Split<T> {
  readonly training: readonly T[];
  readonly validation: readonly T[];
}

/**
 * Holds out `validationSize` of the examples, chosen by the seed; both parts keep their order.
 *
 * @param validationSize 0: none
 * @throws PolypacaError `BAD_DATA` where more than half would be held out
 */
export function splitValidation<T>(examples: readonly T[], validationSize: number, seed: number): Split<T> {
  if (validationSize > examples.length / 2) {
    throw new PolypacaError(
      "BAD_DATA",
      `--validation-size ${validationSize} is more than half of the ${examples.length} examples. Choose at most ${Math.floor(examples.length / 2)}, or give a --validation-file.`,
    );
  }
  const held = new Set(permutation(examples.length, new CounterRandom(seed, randomPurpose.validationSplit)).subarray(0, validationSize));
  return {
    training: examples.filter((_, i) => !held.has(i)),
    validation: examples.filter((_, i) => held.has(i)),
  };
}
