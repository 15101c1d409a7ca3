/** metrics.jsonl and the TensorBoard event file of a run: appended line by line, cut back to the checkpoint on resume. */
import { closeSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { appendFully, syncAppended } from "../checkpoint/append.js";
import { PolypacaError } from "../errors.js";
import type { MetricsLine } from "./loop.js";
import { fileVersionRecord, readScalarEvents, scalarRecord } from "./tensorboard.js";

export const metricsFileName = "metrics.jsonl";
export const eventFileName = "events.out.tfevents.polypaca";

/** Up to where a run's log is kept: what a checkpoint knows of. */
export interface LogPosition {
  readonly step: number;
  readonly evaluatedStep: number;
}

const validationTag = "eval/loss";

/** A file that is open for appending. */
interface OpenLog {
  readonly descriptor: number;
  readonly path: string;
}

export class RunLog {
  readonly #metrics: OpenLog;
  readonly #events: OpenLog;
  readonly #now: () => number;

  private constructor(metrics: OpenLog, events: OpenLog, now: () => number) {
    this.#metrics = metrics;
    this.#events = events;
    this.#now = now;
  }

  /**
   * Opens the files in `folder`, creating them where there are none, and drops what comes after `position` (null: everything),
   * and a last line that a kill cut off.
   *
   * @param now milliseconds since 1970
   */
  static open(folder: string, position: LogPosition | null, now: () => number): RunLog {
    try {
      const metricsPath = join(folder, metricsFileName);
      const metrics = openSync(metricsPath, "a+");
      ftruncateSync(metrics, position === null ? 0 : metricsEnd(readFileSync(metricsPath), position));
      const eventPath = join(folder, eventFileName);
      const events = openSync(eventPath, "a+");
      const eventsKept = position === null ? 0 : eventsEnd(readFileSync(eventPath), position);
      ftruncateSync(events, eventsKept);
      if (eventsKept === 0) appendFully(events, fileVersionRecord(now() / 1000), eventPath);
      return new RunLog({ descriptor: metrics, path: metricsPath }, { descriptor: events, path: eventPath }, now);
    } catch (cause) {
      throw PolypacaError.from(cause, { during: `opening the log of ${folder}` });
    }
  }

  append(line: MetricsLine): void {
    const event = scalarRecord({ wallTime: this.#now() / 1000, step: line.step, scalars: scalarsOf(line) });
    appendFully(this.#metrics.descriptor, `${JSON.stringify(line)}\n`, this.#metrics.path);
    appendFully(this.#events.descriptor, event, this.#events.path);
  }

  /** Makes the lines so far durable. Called before a checkpoint of the same step becomes visible. */
  sync(): void {
    for (const { descriptor, path } of [this.#metrics, this.#events]) syncAppended(descriptor, path);
  }

  close(): void {
    closeSync(this.#metrics.descriptor);
    closeSync(this.#events.descriptor);
  }
}

function scalarsOf(line: MetricsLine): Record<string, number> {
  if ("validationLoss" in line) return { [validationTag]: line.validationLoss ?? Number.NaN };
  return {
    "train/loss": line.loss,
    "train/grad_norm": line.gradNorm,
    "train/learning_rate": line.learningRate,
    "train/tokens_per_second": line.tokensPerSecond,
  };
}

/** Lines stand in the order they were written, so what is kept is a prefix. */
function isKept(step: number, isEvaluation: boolean, position: LogPosition): boolean {
  return step <= (isEvaluation ? position.evaluatedStep : position.step);
}

function metricsEnd(bytes: Buffer, position: LogPosition): number {
  let end = 0;
  for (let next = bytes.indexOf(0x0a); next >= 0; next = bytes.indexOf(0x0a, end)) {
    const line = parseLine(bytes.toString("utf8", end, next));
    if (line === null || !isKept(line.step, "validationLoss" in line, position)) break;
    end = next + 1;
  }
  return end;
}

function parseLine(text: string): MetricsLine | null {
  try {
    return JSON.parse(text) as MetricsLine;
  } catch {
    return null; // a torn write; everything from here on is written again
  }
}

function eventsEnd(bytes: Buffer, position: LogPosition): number {
  let end = 0;
  for (const event of readScalarEvents(bytes)) {
    if (!isKept(event.step, validationTag in event.scalars, position) && Object.keys(event.scalars).length > 0) break;
    end = event.end;
  }
  return end;
}
