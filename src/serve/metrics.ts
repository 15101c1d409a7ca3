/** Counters, gauges and histograms in Prometheus' text format (version 0.0.4). */

export type Labels = Readonly<Record<string, string>>;

interface Metric {
  lines(): string[];
}

/** Adds up over the life of the server. */
export class Counter implements Metric {
  readonly #name: string;
  readonly #values = new Map<string, number>();

  constructor(name: string) {
    this.#name = name;
  }

  add(amount: number, labels: Labels = {}): void {
    const key = labelText(labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + amount);
  }

  lines(): string[] {
    return [...this.#values].map(([labels, value]) => `${this.#name}${labels} ${value}`);
  }
}

/** Read when asked for. */
export class Gauge implements Metric {
  readonly #name: string;
  readonly #read: () => number;

  constructor(name: string, read: () => number) {
    this.#name = name;
    this.#read = read;
  }

  lines(): string[] {
    return [`${this.#name} ${this.#read()}`];
  }
}

/** How many observations were at most each bound. */
export class Histogram implements Metric {
  readonly #name: string;
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  /** @param bounds ascending; infinity is added */
  constructor(name: string, bounds: readonly number[]) {
    this.#name = name;
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    const first = this.#bounds.findIndex((bound) => value <= bound);
    if (first >= 0) this.#counts[first]!++;
    this.#sum += value;
    this.#count++;
  }

  lines(): string[] {
    let below = 0;
    const buckets = this.#bounds.map((bound, index) => {
      below += this.#counts[index]!;
      return `${this.#name}_bucket{le="${bound}"} ${below}`;
    });
    return [
      ...buckets,
      `${this.#name}_bucket{le="+Inf"} ${this.#count}`,
      `${this.#name}_sum ${this.#sum}`,
      `${this.#name}_count ${this.#count}`,
    ];
  }
}

/** Metrics under one name each, in the order they were added. */
export class MetricsPage {
  readonly #entries: { readonly head: string; readonly metric: Metric }[] = [];

  counter(name: string, help: string): Counter {
    return this.#add(name, help, "counter", new Counter(name));
  }

  gauge(name: string, help: string, read: () => number): Gauge {
    return this.#add(name, help, "gauge", new Gauge(name, read));
  }

  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    return this.#add(name, help, "histogram", new Histogram(name, bounds));
  }

  #add<Kind extends Metric>(name: string, help: string, type: string, metric: Kind): Kind {
    this.#entries.push({ head: `# HELP ${name} ${help}\n# TYPE ${name} ${type}`, metric });
    return metric;
  }

  get text(): string {
    return this.#entries.map(({ head, metric }) => `${[head, ...metric.lines()].join("\n")}\n`).join("");
  }
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, escapeLabel)}"`);
  return pairs.length > 0 ? `{${pairs.join(",")}}` : "";
}

function escapeLabel(character: string): string {
  return character === "\n" ? "\\n" : `\\${character}`;
}
