/** Times training steps of many cases in turn, so that a machine that speeds up or slows down does so for all alike. */
import type { StepResult } from "../native/addon-types.js";
import type { BenchCase } from "./cases.js";
import { LiveCase, warmupSteps } from "./live-case.js";

export interface MeasuredSteps {
  readonly benchCase: BenchCase;
  /** One per round. */
  readonly steps: readonly StepResult[];
}

export interface RoundPlan {
  /** Rounds to run; null: as many as `budgetSeconds` allows, within `fewest` and `most`. */
  readonly rounds: number | null;
  readonly budgetSeconds: number;
}

const fewest = 3;
const most = 15;

export interface RoundHooks {
  /** Before round `round` of `rounds`, and with `round` = `rounds` after the last. */
  readonly between: (round: number, rounds: number) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens all cases, warms them up, and runs one step of each per round; every other round goes through the cases backwards, so that
 * no case always follows the same neighbour.
 */
export async function measureSteps(cases: readonly BenchCase[], plan: RoundPlan, hooks: RoundHooks): Promise<MeasuredSteps[]> {
  const live: LiveCase[] = [];
  const steps = new Map<LiveCase, StepResult[]>();
  try {
    for (const benchCase of cases) live.push(await LiveCase.open(benchCase));
    let roundSeconds = 0;
    for (let warmup = 0; warmup < warmupSteps; warmup++) {
      roundSeconds = 0;
      for (const each of live) roundSeconds += (await each.step(hooks.signal)).seconds;
    }
    const rounds = plan.rounds ?? Math.min(most, Math.max(fewest, Math.floor(plan.budgetSeconds / roundSeconds)));
    for (let round = 0; round < rounds; round++) {
      await hooks.between(round, rounds);
      for (const each of round % 2 === 0 ? live : live.toReversed()) {
        const result = await each.step(hooks.signal);
        steps.set(each, [...(steps.get(each) ?? []), result]);
      }
    }
    await hooks.between(rounds, rounds);
    return live.map((each) => ({ benchCase: each.benchCase, steps: steps.get(each) ?? [] }));
  } finally {
    for (const each of live) await each.dispose();
  }
}
