/** The runner over jobs that exist in memory: who runs what, when, and what a failure stops. */
import { describe, expect, it } from "vitest";
import type { JobState } from "../../src/experiment/job-folder.js";
import type { FolderStanding } from "../../src/experiment/job-status.js";
import { heldElsewhereExitCode, type JobExit, type LaunchedJob, type RunnableJob, runJobs } from "../../src/experiment/runner.js";
import { type Lane, localLanes, SlotPool } from "../../src/experiment/slots.js";

/** a → b → d, a → c. */
const jobs: readonly RunnableJob[] = [
  { folder: "a", kind: "train", dependsOn: [], memoryBytes: 10 },
  { folder: "b", kind: "train", dependsOn: ["a"], memoryBytes: 10 },
  { folder: "c", kind: "train", dependsOn: ["a"], memoryBytes: 10 },
  { folder: "d", kind: "train", dependsOn: ["b"], memoryBytes: 10 },
];

type End = "done" | "failed" | "out of memory" | "killed" | "held";

function stateOf(status: JobState["status"], code: "BAD_DATA" | "OUT_OF_MEMORY" | null = null): JobState {
  return {
    ...{ status, attempts: 1, pid: 1, host: "here", startedAt: "", endedAt: null, seconds: 1, progress: null, peakMemoryBytes: null },
    ...{ result: null, error: code && { code, message: "meant" } },
  };
}

/** Jobs end as `script` says, attempt by attempt, at the next turn of the event loop. */
class World {
  readonly standings = new Map<string, FolderStanding>();
  readonly launches: string[] = [];
  readonly mostAtOnce = { now: 0, most: 0 };
  readonly givenUp: string[] = [];
  readonly #script: Readonly<Record<string, readonly End[]>>;

  constructor(script: Readonly<Record<string, readonly End[]>> = {}) {
    this.#script = script;
  }

  read = ({ folder }: RunnableJob): FolderStanding => this.standings.get(folder) ?? { standing: "waiting", state: null };

  launch = async ({ folder }: RunnableJob): Promise<LaunchedJob> => {
    const attempt = this.launches.filter((name) => name === folder).length;
    this.launches.push(folder);
    this.standings.set(folder, { standing: "running", state: stateOf("running") });
    this.mostAtOnce.most = Math.max(this.mostAtOnce.most, ++this.mostAtOnce.now);
    const ended = new Promise<JobExit>((resolve) => {
      setTimeout(() => {
        this.mostAtOnce.now--;
        resolve(this.#end(folder, this.#script[folder]?.[attempt] ?? "done"));
      }, 2);
    });
    return { ended, stop: () => {} };
  };

  #end(folder: string, end: End): JobExit {
    const set = (standing: FolderStanding["standing"], state: JobState | null): void =>
      void this.standings.set(folder, { standing, state });
    if (end === "done") set("done", stateOf("done"));
    if (end === "failed") set("failed", stateOf("failed", "BAD_DATA"));
    if (end === "out of memory") set("failed", stateOf("failed", "OUT_OF_MEMORY"));
    if (end === "killed") set("interrupted", stateOf("running"));
    if (end === "held") {
      set("running", stateOf("running"));
      setTimeout(() => set("done", stateOf("done")), 10); // by the one who has it
      return { code: heldElsewhereExitCode, signal: null };
    }
    return end === "killed" ? { code: null, signal: "SIGKILL" } : { code: end === "done" ? 0 : 1, signal: null };
  }

  giveUp = async ({ folder }: RunnableJob, reason: string): Promise<void> => {
    this.givenUp.push(`${folder}: ${reason}`);
    this.standings.set(folder, { standing: "failed", state: stateOf("failed", "BAD_DATA") });
  };

  async run(settings: { readonly retryFailed?: boolean; readonly retries?: number; readonly lane?: Partial<Lane> } = {}) {
    const lane: Lane = { name: "cpu", slots: 2, memoryBytes: 100, variables: {}, ...settings.lane };
    const { retryFailed = false, retries = 0 } = settings;
    const { read, launch, giveUp } = this;
    const rows = await runJobs(
      jobs,
      new SlotPool([lane]),
      { retryFailed, retries },
      { now: Date.now, read, launch, giveUp, pollMs: 1, firstRetryMs: 1 },
    );
    return Object.fromEntries(rows.map(({ job, standing }) => [job.folder, standing]));
  }
}

describe("jobs", () => {
  it("are all run, each once, after those they depend on", async () => {
    const world = new World();
    expect(await world.run()).toEqual({ a: "done", b: "done", c: "done", d: "done" });
    expect([...world.launches].sort()).toEqual(["a", "b", "c", "d"]);
    expect(world.launches[0]).toBe("a");
    expect(world.launches.indexOf("d")).toBeGreaterThan(world.launches.indexOf("b"));
  });

  it("that are done are not run again", async () => {
    const world = new World();
    for (const name of ["a", "b"]) world.standings.set(name, { standing: "done", state: stateOf("done") });
    await world.run();
    expect([...world.launches].sort()).toEqual(["c", "d"]);
  });

  it("that fail stop those that depend on them, and no others", async () => {
    const world = new World({ b: ["failed"] });
    expect(await world.run({ retries: 5 })).toEqual({ a: "done", b: "failed", c: "done", d: "blocked" });
    expect(world.launches.filter((name) => name === "b")).toHaveLength(1); // it would fail again
  });

  it("that have failed before stay so, and are run again where that is asked for", async () => {
    const world = new World();
    world.standings.set("a", { standing: "failed", state: stateOf("failed", "BAD_DATA") });
    expect(await world.run()).toEqual({ a: "failed", b: "blocked", c: "blocked", d: "blocked" });
    expect(world.launches).toEqual([]);
    expect(await world.run({ retryFailed: true })).toEqual({ a: "done", b: "done", c: "done", d: "done" });
  });

  it("that fail again when they are run again are failed, not run for ever", async () => {
    const world = new World({ a: ["failed", "failed"] });
    world.standings.set("a", { standing: "failed", state: stateOf("failed", "BAD_DATA") });
    expect(await world.run({ retryFailed: true })).toMatchObject({ a: "failed", b: "blocked" });
    expect(world.launches).toEqual(["a"]);
  });

  it("that are killed are run again, so often as is allowed, then given up", async () => {
    const world = new World({ b: ["killed", "killed"], c: ["killed", "killed", "killed"] });
    expect(await world.run({ retries: 2 })).toEqual({ a: "done", b: "done", c: "failed", d: "done" });
    expect(world.givenUp).toEqual(["c: its process was ended by SIGKILL, 3 times"]);
  });

  it("that find too little memory are tried again", async () => {
    const world = new World({ a: ["out of memory"] });
    expect(await world.run({ retries: 1 })).toMatchObject({ a: "done", d: "done" });
  });

  it("that another runner has are waited for, and so is what depends on them", async () => {
    const world = new World({ a: ["held"] });
    expect(await world.run()).toEqual({ a: "done", b: "done", c: "done", d: "done" });
    expect(world.launches.filter((name) => name === "a")).toHaveLength(1);
  });

  it("whose end cannot be read end the runner with the reason", async () => {
    const world = new World({ b: ["killed"] });
    world.giveUp = async () => {
      throw new Error("no space left");
    };
    await expect(world.run()).rejects.toThrow("no space left");
  });

  it("run side by side as far as slots and memory allow", async () => {
    const two = new World();
    await two.run();
    expect(two.mostAtOnce.most).toBe(2);
    const narrow = new World();
    await narrow.run({ lane: { memoryBytes: 15 } });
    expect(narrow.mostAtOnce.most).toBe(1);
  });
});

describe("the lanes of a machine", () => {
  const machine = { devices: [], isPinned: false, slots: 3, threads: 8, memoryBytes: 100 };
  const computing = (capacity: Parameters<typeof localLanes>[0]): Lane[] =>
    localLanes(capacity).filter(({ name }) => name !== "data" && name !== "judge");

  it("share the CPU's threads among its slots, at least one each", () => {
    expect(computing(machine)).toEqual([{ name: "cpu", slots: 3, memoryBytes: 100, variables: { OMP_NUM_THREADS: "2" } }]);
    expect(computing({ ...machine, slots: 20 })[0]!.variables).toEqual({ OMP_NUM_THREADS: "1" });
  });

  it("show each job its GPU alone, among those the user allows", () => {
    const devices = [0, 1].map((index) => ({ index, memoryBytes: 50 }));
    const seen = (more: object): unknown[] =>
      computing({ ...machine, devices, ...more }).map(({ variables }) => variables.CUDA_VISIBLE_DEVICES);
    expect(seen({})).toEqual(["0", "1"]);
    expect(seen({ visibleDevices: "4,6" })).toEqual(["4", "6"]);
    expect(seen({ devices: [devices[1]], isPinned: true })).toEqual([undefined]);
  });
});

describe("slots", () => {
  const job = (memoryBytes: number | null, kind: RunnableJob["kind"] = "train") => ({ kind, memoryBytes });
  const gpu = (name: string): Lane => ({ name, slots: 4, memoryBytes: 100, variables: {} });

  it("go to the device with the most room", () => {
    const pool = new SlotPool([gpu("cuda:0"), gpu("cuda:1")]);
    const names = [60, 30, 60].map((bytes) => pool.take(job(bytes))?.lane.name ?? null);
    expect(names).toEqual(["cuda:0", "cuda:1", "cuda:1"]);
    expect(pool.take(job(60))).toBeNull();
    expect(pool.take(job(40))!.lane.name).toBe("cuda:0");
  });

  it("of a whole device go to a job that would not fit, or whose memory is not known: it is alone there", () => {
    for (const bytes of [1000, null]) {
      const pool = new SlotPool([gpu("cuda:0")]);
      const slot = pool.take(job(bytes))!;
      expect(pool.take(job(1))).toBeNull();
      pool.give(slot);
      expect(pool.take(job(1))).not.toBeNull();
    }
  });

  it("of devices are not for what needs none", () => {
    const pool = new SlotPool([gpu("cuda:0")]);
    expect(pool.take(job(null, "judge"))).toBeNull();
    expect(pool.take(job(null, "mix"))).toBeNull();
  });
});
