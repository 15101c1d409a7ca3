/** Where jobs may run on this machine: devices with room for several, by number and by memory; and the work that needs no device. */
import type { JobKind } from "./job.js";

/** A place that one job has at a time. */
export interface Slot {
  readonly lane: Lane;
  readonly memoryBytes: number;
}

/** Jobs that take turns, or run side by side as far as there is room. */
export interface Lane {
  /** "cpu", "cuda:0", or what needs no device: "data", "judge". */
  readonly name: string;
  /** Jobs at a time. */
  readonly slots: number;
  /** That jobs in it may take together; null: not counted. */
  readonly memoryBytes: number | null;
  /** Environment variables of jobs in it. */
  readonly variables: Readonly<Record<string, string>>;
}

export interface Device {
  /** Among those that this process sees. */
  readonly index: number;
  readonly memoryBytes: number;
}

export interface LocalCapacity {
  /** Of the GPUs that jobs may use; empty: they compute on the CPU. */
  readonly devices: readonly Device[];
  /** The grid names its GPU: jobs must see it under that name. */
  readonly isPinned: boolean;
  /** Of each device; default 1. */
  readonly slots: number;
  /** Of the CPU. */
  readonly threads: number;
  readonly memoryBytes: number;
  /** As the user has limited the GPUs, which changes what an index means; undefined: not. */
  readonly visibleDevices?: string | undefined;
}

const dataKinds: ReadonlySet<JobKind> = new Set<JobKind>(["split", "mix", "score", "figures"]);

/** One job of each lane at a time that reads and writes data, or asks the judge: the former would wait for the disk, the latter has limits of its own. */
export function localLanes({ devices, isPinned, slots, threads, memoryBytes, visibleDevices }: LocalCapacity): Lane[] {
  const turns: Lane[] = ["data", "judge"].map((name) => ({ name, slots: 1, memoryBytes: null, variables: {} }));
  if (devices.length === 0) {
    const share = Math.max(1, Math.floor(threads / slots));
    return [...turns, { name: "cpu", slots, memoryBytes, variables: { OMP_NUM_THREADS: String(share) } }];
  }
  const visible = visibleDevices?.split(",");
  const cuda = devices.map(
    (device): Lane => ({
      ...{ name: `cuda:${device.index}`, slots, memoryBytes: device.memoryBytes },
      // A job sees its GPU alone, so that it resumes as well on another one.
      variables: isPinned ? {} : { CUDA_VISIBLE_DEVICES: visible?.[device.index] ?? String(device.index) },
    }),
  );
  return [...turns, ...cuda];
}

export class SlotPool {
  readonly #lanes: readonly Lane[];
  readonly #taken = new Map<Lane, Slot[]>();

  constructor(lanes: readonly Lane[]) {
    this.#lanes = lanes;
    for (const lane of lanes) this.#taken.set(lane, []);
  }

  /**
   * A slot for the job: of the devices with room, the emptiest. A job whose memory is not known, or more than all there is, has its device
   * for itself.
   *
   * @returns null: none is free
   */
  take({ kind, memoryBytes }: { readonly kind: JobKind; readonly memoryBytes: number | null }): Slot | null {
    const free = this.#lanes.filter((lane) => servesKind(lane, kind)).flatMap((lane) => this.#room(lane, memoryBytes));
    const [best] = free.sort((a, b) => b.free - a.free || a.running - b.running);
    if (best === undefined) return null;
    const slot: Slot = { lane: best.lane, memoryBytes: best.needed };
    this.#taken.get(best.lane)!.push(slot);
    return slot;
  }

  give(slot: Slot): void {
    const taken = this.#taken.get(slot.lane)!;
    const index = taken.indexOf(slot);
    if (index >= 0) taken.splice(index, 1);
  }

  #room(lane: Lane, memoryBytes: number | null): { lane: Lane; free: number; running: number; needed: number }[] {
    const taken = this.#taken.get(lane)!;
    const running = taken.length;
    if (running >= lane.slots) return [];
    if (lane.memoryBytes === null) return [{ lane, free: 0, running, needed: 0 }];
    const needed = Math.min(memoryBytes ?? lane.memoryBytes, lane.memoryBytes);
    const free = lane.memoryBytes - taken.reduce((sum, slot) => sum + slot.memoryBytes, 0);
    return needed <= free ? [{ lane, free, running, needed }] : [];
  }
}

function servesKind({ name }: Lane, kind: JobKind): boolean {
  if (name === "data") return dataKinds.has(kind);
  if (name === "judge") return kind === "judge";
  return kind === "train" || kind === "generate" || kind === "likelihood";
}
