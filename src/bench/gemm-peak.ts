/**
 * The denominator of utilisation: the best rate that a large dense product of this build reaches on this device, with the threads
 * of this run and in the same minutes as the steps.
 */
import type { Addon, ComputeDType } from "../native/addon-types.js";
import { medianOf } from "./statistics.js";

/** On the CPU: tokens x out features x in features, as training meets them; the last is an LM head. */
export const peakProducts = [
  { N: 1024, rows: 2048, cols: 512 },
  { N: 1024, rows: 3072, cols: 768 },
  { N: 1024, rows: 512, cols: 2048 },
  { N: 2048, rows: 2048, cols: 2048 },
  { N: 1024, rows: 32768, cols: 768 },
] as const;

export interface ProductRate {
  readonly N: number;
  readonly rows: number;
  readonly cols: number;
  /** Median over the run, in GFLOP/s. */
  readonly gflops: number;
}

export class GemmPeak {
  readonly #addon: Addon;
  readonly #device: string;
  /** CPU: GFLOP/s by type and product. */
  readonly #rates = new Map<ComputeDType, number[][]>();
  /** CPU: GFLOP/s of the micro-kernel with its panels in the cache. */
  readonly #inCache = new Map<ComputeDType, number[]>();
  /** GPU: GFLOP/s of its own choice of bf16 products. */
  readonly #deviceRates: number[] = [];
  readonly #milliseconds: number;

  /** @param milliseconds of one sample of one product */
  constructor(addon: Addon, device: string, milliseconds = 40) {
    this.#addon = addon;
    this.#device = device;
    this.#milliseconds = milliseconds;
  }

  /** Measures every product, and the micro-kernel, once in each type; called before, between and after the steps. */
  async sample(): Promise<void> {
    if (this.#device !== "cpu") {
      this.#deviceRates.push(await this.#addon.measurePeak("bf16", this.#milliseconds, this.#device));
      return;
    }
    for (const dtype of ["fp32", "bf16"] as const) {
      const rates = this.#rates.get(dtype) ?? peakProducts.map(() => []);
      this.#rates.set(dtype, rates);
      for (const [i, product] of peakProducts.entries()) {
        const { seconds } = await this.#addon.timeKernel("linear_forward", { dtype, ...product }, this.#milliseconds);
        rates[i]!.push((2 * product.N * product.rows * product.cols) / seconds / 1e9);
      }
      const inCache = this.#inCache.get(dtype) ?? [];
      this.#inCache.set(dtype, inCache);
      inCache.push(await this.#addon.measurePeak(dtype, this.#milliseconds));
    }
  }

  /** Times the products were measured. */
  get samples(): number {
    return this.#rates.get("fp32")?.[0]?.length ?? this.#deviceRates.length;
  }

  /** None on a GPU, whose back end picks the products and tells the best rate alone. */
  products(dtype: ComputeDType): ProductRate[] {
    const rates = this.#rates.get(dtype) ?? [];
    return rates.map((values, i) => ({ ...peakProducts[i]!, gflops: medianOf(values) }));
  }

  /** The micro-kernel's median, in GFLOP/s; null on a GPU. Between runs of one build it tells how fast the machine was. */
  microKernel(): Readonly<Record<ComputeDType, number>> | null {
    if (this.#device !== "cpu") return null;
    return { fp32: medianOf(this.#inCache.get("fp32") ?? []), bf16: medianOf(this.#inCache.get("bf16") ?? []) };
  }

  /** The fastest product's median, in GFLOP/s; null for a type that the device does not compute in. */
  peak(dtype: ComputeDType): number | null {
    if (this.#device !== "cpu") return dtype === "bf16" ? medianOf(this.#deviceRates) : null;
    return Math.max(...this.products(dtype).map(({ gflops }) => gflops));
  }
}
