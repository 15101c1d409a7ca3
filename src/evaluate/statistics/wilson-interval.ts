import { confidence, type Interval } from "./interval.js";
import { normalQuantile } from "./normal-distribution.js";

/** Wilson's score interval of a share (Wilson 1927, JASA 22(158)), which holds its coverage at small counts and at 0 and 1; null for none. */
export function wilsonInterval(successes: number, trials: number): Interval | null {
  if (trials === 0) return null;
  const z = normalQuantile((1 + confidence) / 2);
  const share = successes / trials;
  const denominator = 1 + z ** 2 / trials;
  const centre = (share + z ** 2 / (2 * trials)) / denominator;
  const half = (z / denominator) * Math.sqrt((share * (1 - share)) / trials + z ** 2 / (4 * trials ** 2));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}
