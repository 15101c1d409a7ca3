/**
 * AdamW: algorithm 2 of Loshchilov & Hutter 2019 (arXiv:1711.05101), decay scaled by the learning rate as in PyTorch,
 * epsilon outside the root and after the bias correction.
 */
export interface AdamWState {
  readonly parameter: Float64Array;
  readonly firstMoment: Float64Array;
  readonly secondMoment: Float64Array;
}

export interface AdamWSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** 1 for the first update. */
  readonly step: number;
  /** Applied to every gradient first (clipping). */
  readonly gradScale: number;
}

export function adamwUpdate(state: AdamWState, grad: ArrayLike<number>, settings: AdamWSettings): AdamWState {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradScale } = settings;
  const firstMoment = state.firstMoment.map((m, i) => beta1 * m + (1 - beta1) * gradScale * grad[i]!);
  const secondMoment = state.secondMoment.map((v, i) => beta2 * v + (1 - beta2) * (gradScale * grad[i]!) ** 2);
  const parameter = state.parameter.map((p, i) => {
    const mHat = firstMoment[i]! / (1 - beta1 ** step);
    const vHat = secondMoment[i]! / (1 - beta2 ** step);
    return p * (1 - learningRate * weightDecay) - (learningRate * mHat) / (Math.sqrt(vHat) + epsilon);
  });
  return { parameter, firstMoment, secondMoment };
}
