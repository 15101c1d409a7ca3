/** Lower and upper end of a confidence interval. */
export type Interval = readonly [low: number, high: number];

/** Of every interval here. */
export const confidence = 0.95;

/** An estimate; both are null where the data does not determine them. */
export interface Estimate {
  readonly value: number | null;
  readonly interval: Interval | null;
}
