import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { Checkpoints, peakCheckpointBytes, stateFileName, stepsToRemove } from "../../src/train/checkpoints.js";

let folder: string;
let checkpoints: Checkpoints;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "polypaca-checkpoints-"));
  checkpoints = new Checkpoints(folder);
});

async function write(step: number): Promise<void> {
  await checkpoints.write(step, async (into) => {
    writeFileSync(join(into, "weights"), `weights ${step}`);
    writeFileSync(join(into, stateFileName), `state ${step}`);
  });
}

describe("Checkpoints", () => {
  it("shows a checkpoint only when all of it is written", async () => {
    let during: number[] = [];
    await checkpoints.write(5, async (into) => {
      writeFileSync(join(into, "weights"), "w");
      during = await checkpoints.steps();
    });
    expect(during).toEqual([]);
    expect(await checkpoints.steps()).toEqual([5]);
  });

  it("leaves nothing of a checkpoint that could not be written", async () => {
    const failing = checkpoints.write(5, async (into) => {
      writeFileSync(join(into, "weights"), "w");
      throw new Error("no space left");
    });
    await expect(failing).rejects.toThrow("no space left");
    expect(readdirSync(join(folder, "checkpoints"))).toEqual([]);
  });

  it("cleans what killed runs left, and only that", async () => {
    await write(1);
    mkdirSync(join(folder, "checkpoints/.tmp-step-2"));
    writeFileSync(join(folder, "checkpoints/.tmp-step-2/weights"), "half");
    writeFileSync(join(folder, ".tmp-best"), "");
    await checkpoints.clean();
    expect(readdirSync(join(folder, "checkpoints"))).toEqual(["step-1"]);
    expect(existsSync(join(folder, ".tmp-best"))).toBe(false);
  });

  it("orders steps as numbers", async () => {
    for (const step of [10, 9, 200]) await write(step);
    expect(await checkpoints.steps()).toEqual([9, 10, 200]);
  });

  it("points with relative links, so that a run folder can be moved", async () => {
    await write(1);
    await write(2);
    await checkpoints.point("best", 1);
    await checkpoints.point("best", 2);
    expect(readlinkSync(join(folder, "best"))).toBe("checkpoints/step-2");
    expect(readFileSync(join(folder, "best/weights"), "utf8")).toBe("weights 2");
  });

  it("drops optimiser state of all but last, then the oldest, but never best or last", async () => {
    for (const step of [1, 2, 3, 4, 5]) await write(step);
    await checkpoints.prune({ last: 5, best: 1, limit: 3 });
    expect(await checkpoints.steps()).toEqual([1, 4, 5]);
    const withState = [1, 4, 5].filter((step) => existsSync(join(checkpoints.path(step), stateFileName)));
    expect(withState).toEqual([5]);
    expect(await checkpoints.latestResumable()).toBe(5);
  });

  it("does not offer a checkpoint without optimiser state for resuming", async () => {
    await write(1);
    await checkpoints.write(2, async (into) => writeFileSync(join(into, "weights"), "w"));
    expect(await checkpoints.latestResumable()).toBe(1);
  });
});

describe("stepsToRemove", () => {
  it.each([
    [{ last: 4, best: 4, limit: 1 }, [1, 2, 3]],
    [{ last: 4, best: 1, limit: 1 }, [2, 3]],
    [{ last: 4, best: null, limit: 2 }, [1, 2]],
    [{ last: 4, best: 2, limit: 3 }, [1]],
    [{ last: 4, best: 2, limit: 9 }, []],
  ])("with %o of steps 1 to 4", (keep, removed) => {
    expect(stepsToRemove([1, 2, 3, 4], keep)).toEqual(removed);
  });
});

describe("peakCheckpointBytes", () => {
  it("counts the checkpoints kept, the one being written, and two optimiser states", () => {
    expect(peakCheckpointBytes({ weightBytes: 10, stateBytes: 100, limit: 3 })).toBe(4 * 10 + 2 * 100);
    expect(peakCheckpointBytes({ weightBytes: 10, stateBytes: 100, limit: 1 })).toBe(3 * 10 + 2 * 100);
  });
});
