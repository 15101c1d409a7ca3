import { appendFileSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import type { MetricsLine } from "../../src/train/loop.js";
import { eventFileName, type LogPosition, metricsFileName, RunLog } from "../../src/train/run-log.js";
import { readScalarEvents } from "../../src/train/tensorboard.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "polypaca-log-"));
});

function stepLine(step: number): MetricsLine {
  const rest = { loss: 1 / step, gradNorm: 1, learningRate: 0.1, tokens: 10, targetTokens: 5, seconds: 1, tokensPerSecond: 10 };
  return { step, epoch: step / 4, ...rest };
}

function evaluationLine(step: number): MetricsLine {
  return { step, epoch: step / 4, validationLoss: 2 };
}

function write(position: LogPosition | null, lines: readonly MetricsLine[]): void {
  const log = RunLog.open(folder, position, () => 1_700_000_000_000);
  for (const line of lines) log.append(line);
  log.sync();
  log.close();
}

/** Steps in both files; "e" marks an evaluation. */
function contents(): { metrics: string[]; events: string[] } {
  const lines = readFileSync(join(folder, metricsFileName), "utf8").split("\n").filter(Boolean);
  const metrics = lines.map((line) => JSON.parse(line) as MetricsLine);
  const events = [...readScalarEvents(readFileSync(join(folder, eventFileName)))].slice(1);
  return {
    metrics: metrics.map((line) => `${"validationLoss" in line ? "e" : ""}${line.step}`),
    events: events.map((event) => `${"eval/loss" in event.scalars ? "e" : ""}${event.step}`),
  };
}

const four = [evaluationLine(0), stepLine(1), stepLine(2), evaluationLine(2), stepLine(3), stepLine(4), evaluationLine(4)];

describe("RunLog", () => {
  it("writes each line to metrics.jsonl and to the event file", () => {
    write(null, four);
    const expected = ["e0", "1", "2", "e2", "3", "4", "e4"];
    expect(contents()).toEqual({ metrics: expected, events: expected });
  });

  it("is cut back to the checkpoint on resume and goes on from there", () => {
    write(null, four);
    write({ step: 3, evaluatedStep: 2 }, [stepLine(4), evaluationLine(4)]);
    const expected = ["e0", "1", "2", "e2", "3", "4", "e4"];
    expect(contents()).toEqual({ metrics: expected, events: expected });
  });

  it("drops an evaluation that the checkpoint of its step does not know of", () => {
    write(null, four);
    write({ step: 4, evaluatedStep: 2 }, []);
    const expected = ["e0", "1", "2", "e2", "3", "4"];
    expect(contents()).toEqual({ metrics: expected, events: expected });
  });

  it("starts anew where there is no checkpoint", () => {
    write(null, four);
    write(null, [stepLine(1)]);
    expect(contents()).toEqual({ metrics: ["1"], events: ["1"] });
  });

  it("drops lines that a kill cut off", () => {
    write(null, four);
    appendFileSync(join(folder, metricsFileName), '{"step":5,"ep');
    appendFileSync(join(folder, eventFileName), Buffer.from([40, 0, 0]));
    write({ step: 4, evaluatedStep: 4 }, [stepLine(5)]);
    const expected = ["e0", "1", "2", "e2", "3", "4", "e4", "5"];
    expect(contents()).toEqual({ metrics: expected, events: expected });
  });

  it("writes a validation loss of NaN as null and stays readable", () => {
    write(null, [{ step: 0, epoch: 0, validationLoss: null }, stepLine(1)]);
    expect(contents()).toEqual({ metrics: ["e0", "1"], events: ["e0", "1"] });
  });
});
