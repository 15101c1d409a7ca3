/**
 * GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415): u Phi(u), exactly ("erf") or with the paper's tanh approximation.
 */
export type GeluForm = "erf" | "tanh";

export function geluForward(u: ArrayLike<number>, form: GeluForm): Float64Array {
  return Float64Array.from(u, (x) => (form === "erf" ? x * normalCdf(x) : 0.5 * x * (1 + Math.tanh(tanhArgument(x)))));
}

export function geluBackward(da: ArrayLike<number>, u: ArrayLike<number>, form: GeluForm): Float64Array {
  return Float64Array.from(u, (x, i) => {
    if (form === "erf") return da[i]! * (normalCdf(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI));
    const t = Math.tanh(tanhArgument(x));
    const dArgument = Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
    return da[i]! * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * dArgument);
  });
}

function tanhArgument(x: number): number {
  return Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
}

/** Distribution function of the standard normal; keeps its digits in the left tail. */
export function normalCdf(x: number): number {
  return 0.5 * erfc(-x / Math.SQRT2);
}

/** Error function in double precision. Near 0 the series of Abramowitz & Stegun 7.1.6, whose terms are all positive: no cancellation. */
export function erf(x: number): number {
  if (Math.abs(x) > 2.5) return Math.sign(x) * (1 - erfc(Math.abs(x)));
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17 && n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** Complementary error function. In the right tail the continued fraction of Abramowitz & Stegun 7.1.14, from the inside out. */
export function erfc(x: number): number {
  if (x < 2.5) return 1 - erf(x);
  let fraction = x;
  for (let n = 120; n >= 1; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}
