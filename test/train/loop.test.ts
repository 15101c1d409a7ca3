import { describe, expect, it } from "vitest";
import { PolypacaError } from "../../src/errors.js";
import { listRecords, type MetricsLine, NotFiniteError, runTraining } from "../../src/train/loop.js";
import { afterEvaluation, initialState, type TrainingState } from "../../src/train/training-state.js";
import { ToyTrainer, toyBatch, toyRun } from "./toy-run.js";

/** Runs with the given validation losses (before step 1, then per step) and says what was saved. */
async function runWithLosses(losses: readonly number[], earlyStopping: number | null = null) {
  const saved: TrainingState[] = [];
  const trainer = new ToyTrainer();
  const remaining = [...losses];
  const end = await runTraining(
    toyRun(trainer, {
      steps: losses.length - 1,
      evalEvery: 1,
      saveEvery: 1000,
      earlyStopping,
      evaluate: async () => remaining.shift()!,
      save: async (state) => void saved.push(state),
    }),
    initialState,
  );
  return { ...end, saved: saved.map((state) => state.step) };
}

describe("runTraining", () => {
  it("records every step and the evaluations before step 1, at the cadence and at the last step", async () => {
    const lines: MetricsLine[] = [];
    const { state, reason } = await runTraining(toyRun(new ToyTrainer(), { steps: 10, record: (line) => lines.push(line) }), initialState);
    const steps = lines.flatMap((line) => ("loss" in line ? [line] : []));
    const evaluations = lines.filter((line) => "validationLoss" in line);
    expect(reason).toBe("completed");
    expect(steps.map((line) => line.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(steps[4]).toMatchObject({ epoch: 1, learningRate: 0.1 / 5, tokens: 3, targetTokens: 3, tokensPerSecond: 6 });
    expect(evaluations.map((line) => line.step)).toEqual([0, 4, 8, 10]);
    expect(state).toMatchObject({ step: 10, tokens: 30, stepSeconds: 5, loss: { first: steps[0]?.loss, last: steps[9]?.loss } });
  });

  it("saves at the cadence, at a new best and at the end, each step once and after its evaluation", async () => {
    const saved: TrainingState[] = [];
    const run = toyRun(new ToyTrainer(), { steps: 8, evalEvery: 4, saveEvery: 3, save: async (state) => void saved.push(state) });
    await runTraining(run, initialState);
    expect(saved.map((state) => state.step)).toEqual([3, 4, 6, 8]);
    expect(saved.map((state) => state.evaluatedStep)).toEqual([0, 4, 4, 8]);
  });

  it("trains without validation data", async () => {
    const { state } = await runTraining(toyRun(new ToyTrainer(), { steps: 3, evaluate: null }), initialState);
    expect(state).toMatchObject({ step: 3, best: null, validationLoss: null });
  });

  it("takes the lowest loss for best and gives a tie to the earlier step", async () => {
    expect(await runWithLosses([9, 5, 4, 4, 6])).toMatchObject({
      state: { best: { step: 2, validationLoss: 4 }, validationLoss: { first: 9, last: 6 } },
      saved: [1, 2, 4],
    });
  });

  it("never takes NaN for best, first or later", async () => {
    expect((await runWithLosses([9, Number.NaN, 7, Number.NaN])).state.best).toEqual({ step: 2, validationLoss: 7 });
    expect((await runWithLosses([9, Number.NaN, Number.NaN])).state.best).toBeNull();
  });

  it("does not take the evaluation before step 1 for best", async () => {
    expect((await runWithLosses([1, 5, 4])).state.best).toEqual({ step: 2, validationLoss: 4 });
  });

  it("stops early after so many evaluations without improvement, with a checkpoint there", async () => {
    expect(await runWithLosses([9, 5, 6, 5, 3, 3], 2)).toMatchObject({
      reason: "early-stopping",
      state: { step: 3, best: { step: 1 } },
      saved: [1, 3],
    });
    expect(await runWithLosses([9, 5, 6, 4, 3, 3], 2)).toMatchObject({ reason: "completed", state: { step: 5 } });
  });

  it("goes no further when a run that is over is resumed", async () => {
    const { state } = await runWithLosses([9, 5, 6, 5, 3, 3], 2);
    const trainer = new ToyTrainer();
    const run = toyRun(trainer, { earlyStopping: 2, evaluate: () => Promise.reject(new Error("evaluated again")) });
    expect(await runTraining(run, state)).toEqual({ state, reason: "early-stopping" });
    expect(trainer.weight).toBe(new ToyTrainer().weight);
  });

  it("cancelled, saves the steps done and stops", async () => {
    const stop = new AbortController();
    const saved: number[] = [];
    const run = toyRun(new ToyTrainer(), {
      saveEvery: 100,
      signal: stop.signal,
      record: (line) => "loss" in line && line.step === 7 && stop.abort(),
      save: async (state) => void saved.push(state.step),
    });
    expect(await runTraining(run, initialState)).toMatchObject({ reason: "cancelled", state: { step: 7 } });
    expect(saved).toEqual([4, 7]);
  });

  it("cancelled before step 1, saves nothing", async () => {
    const run = toyRun(new ToyTrainer(), { signal: AbortSignal.abort(), save: () => Promise.reject(new Error("saved")) });
    expect(await runTraining(run, initialState)).toMatchObject({ reason: "cancelled", state: { step: 0 } });
  });

  it("cancelled in an evaluation, makes it up on resume and ends as a run left alone", async () => {
    const left = new ToyTrainer();
    const expected = await runTraining(toyRun(left), initialState);

    const trainer = new ToyTrainer();
    const stop = new AbortController();
    const evaluate = async (): Promise<number> => {
      if (trainer.weight === new ToyTrainer().weight) return (trainer.weight - 2) ** 2;
      stop.abort();
      throw new PolypacaError("CANCELLED", "the evaluation was cancelled");
    };
    const cut = await runTraining(toyRun(trainer, { signal: stop.signal, evaluate }), initialState);
    expect(cut).toMatchObject({ reason: "cancelled", state: { step: 4, evaluatedStep: 0 } });
    expect(await runTraining(toyRun(trainer), cut.state)).toEqual(expected);
    expect(trainer).toEqual(left);
  });

  it("stops at a non-finite gradient naming step and records, and saves nothing after the last good checkpoint", async () => {
    const saved: number[] = [];
    const batch = (step: number) => {
      const good = toyBatch([1, 2]);
      return step === 4 ? { ...good, targetTokens: 0 } : good;
    };
    const run = toyRun(new ToyTrainer(), { batch, save: async (state) => void saved.push(state.step) });
    const failure = await runTraining(run, initialState).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(NotFiniteError);
    expect(failure).toMatchObject({ code: "NOT_FINITE", step: 5 });
    expect((failure as Error).message).toContain("step 5: the gradient norm is");
    expect((failure as Error).message).toContain("toy.json lines 1, 2");
    expect(saved).toEqual([3, 4]);
  });

  it("stops where a step returns a loss that is not finite", async () => {
    const trainer = new ToyTrainer();
    const run = toyRun(trainer, {
      trainer: { step: async (...step) => ({ ...(await trainer.step(...step)), loss: Number.POSITIVE_INFINITY }) },
    });
    await expect(runTraining(run, initialState)).rejects.toMatchObject({ code: "NOT_FINITE", step: 1 });
  });
});

describe("afterEvaluation", () => {
  it("counts a NaN as an evaluation without improvement", () => {
    const state = afterEvaluation({ ...initialState, step: 4, best: { step: 2, validationLoss: 1 } }, Number.NaN, 1);
    expect(state).toMatchObject({ evaluationsSinceBest: 1, best: { step: 2 }, evaluatedStep: 4 });
  });
});

describe("listRecords", () => {
  it("groups by file, in order", () => {
    const records = [
      { file: "a.json", line: 17 },
      { file: "b.json", line: 2 },
      { file: "a.json", line: 3 },
    ];
    expect(listRecords(records)).toBe("a.json lines 3, 17; b.json line 2");
  });
});
