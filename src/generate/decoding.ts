/** Decoding settings; every one has a flag of `generate`. */
export interface DecodingSettings {
  /** 1: greedy, or sampling where temperature is above 0. */
  readonly numBeams: number;
  readonly maxNewTokens: number;
  /** 0: off. */
  readonly noRepeatNgramSize: number;
  /** 1: none. */
  readonly repetitionPenalty: number;
  /** Above 0: sampling. */
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  readonly lengthPenalty: number;
}

export type DecodingPresetName = "paper-lora" | "paper-fft";

const paper = {
  numBeams: 4,
  maxNewTokens: 256,
  noRepeatNgramSize: 6,
  repetitionPenalty: 1,
  temperature: 0,
  topK: 0,
  topP: 1,
  lengthPenalty: 1,
} as const satisfies DecodingSettings;

/** As the study's repository decodes LoRA and FFT models. */
export const decodingPresets: Readonly<Record<DecodingPresetName, DecodingSettings>> = {
  "paper-lora": paper,
  "paper-fft": { ...paper, repetitionPenalty: 1.1 },
};
