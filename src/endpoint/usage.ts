import type { TokenUsage } from "./request.js";

/** Per million tokens, in any currency. */
export interface TokenPrices {
  readonly input: number;
  readonly output: number;
}

/** What a run used of a paid service. */
export interface Usage extends TokenUsage {
  /** Of which usage was reported; answers of no use are counted with the one that followed. */
  readonly answers: number;
  /** null where no prices are given. */
  readonly cost: number | null;
}

export class UsageMeter {
  readonly #prices: TokenPrices | null;
  #answers = 0;
  #inputTokens = 0;
  #outputTokens = 0;

  constructor(prices: TokenPrices | null) {
    this.#prices = prices;
  }

  add(usage: TokenUsage | null): void {
    if (usage === null) return;
    this.#answers++;
    this.#inputTokens += usage.inputTokens;
    this.#outputTokens += usage.outputTokens;
  }

  /** null where nothing was reported. */
  total(): Usage | null {
    if (this.#answers === 0) return null;
    const [inputTokens, outputTokens] = [this.#inputTokens, this.#outputTokens];
    const cost = this.#prices === null ? null : (inputTokens * this.#prices.input + outputTokens * this.#prices.output) / 1e6;
    return { answers: this.#answers, inputTokens, outputTokens, cost };
  }

  /** For a line of progress: "1234 tokens, cost 0.56"; empty where nothing was reported. */
  describe(): string {
    const total = this.total();
    if (total === null) return "";
    const tokens = `${total.inputTokens + total.outputTokens} tokens`;
    return total.cost === null ? tokens : `${tokens}, cost ${total.cost.toFixed(total.cost < 1 ? 4 : 2)}`;
  }
}
