import { describe, expect, it } from "vitest";
import { locateStep, planSteps } from "../../src/train/step-plan.js";

describe("planSteps", () => {
  it("counts the smaller last batch of an epoch as a step", () => {
    expect(planSteps({ examples: 10, batchSize: 4, epochs: 3, maxSteps: null })).toMatchObject({ stepsPerEpoch: 3, steps: 9 });
  });

  it("lets maxSteps override epochs, beyond one epoch too", () => {
    expect(planSteps({ examples: 10, batchSize: 4, epochs: 1, maxSteps: 7 }).steps).toBe(7);
  });

  it("rounds a fraction of an epoch up to whole steps", () => {
    expect(planSteps({ examples: 100, batchSize: 10, epochs: 0.25, maxSteps: null }).steps).toBe(3);
  });
});

describe("locateStep", () => {
  it("takes every place of every epoch exactly once", () => {
    const plan = planSteps({ examples: 10, batchSize: 4, epochs: 2, maxSteps: null });
    const places = Array.from({ length: plan.steps }, (_, step) => locateStep(plan, step)).flatMap(({ epoch, start, end }) =>
      Array.from({ length: end - start }, (_, place) => `${epoch}:${start + place}`),
    );
    expect(places).toEqual([0, 1].flatMap((epoch) => Array.from({ length: 10 }, (_, place) => `${epoch}:${place}`)));
  });
});
