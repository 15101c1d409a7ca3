/** The standard normal distribution. */

/** Beyond this many standard deviations the tail is below the spacing of doubles at 1. */
const farTail = 8.5;

export function normalDensity(x: number): number {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

/**
 * P(Z <= x), by the series 1/2 + density(x) (x + x^3/3 + x^5/(3 5) + ...) of Marsaglia 2004, "Evaluating the normal distribution",
 * Journal of Statistical Software 11(4); absolute error about 1e-15.
 */
export function normalCdf(x: number): number {
  if (x < -farTail) return 0;
  if (x > farTail) return 1;
  let term = x;
  let sum = x;
  for (let i = 3; sum + term !== sum; i += 2) {
    term *= (x * x) / i;
    sum += term;
  }
  return 0.5 + sum * normalDensity(x);
}

/**
 * The x with P(Z <= x) = `probability`, by Newton's method: above the median the distribution function is concave, so the steps from 0
 * approach x from below and never pass it. Good to 1e-9 for probabilities of 1e-6 to 1 - 1e-6; ±Infinity at 0 and 1.
 */
export function normalQuantile(probability: number): number {
  if (probability < 0.5) return -normalQuantile(1 - probability);
  if (probability >= 1) return Number.POSITIVE_INFINITY;
  let x = 0;
  for (let step = 0; step < 100; step++) {
    const change = (probability - normalCdf(x)) / normalDensity(x);
    x += change;
    if (change < 1e-14) break;
  }
  return x;
}
