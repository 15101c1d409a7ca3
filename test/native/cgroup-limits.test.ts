/** How much memory control groups leave, read from made-up /proc and /sys trees of both versions. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { probe } from "../ops/probe.js";

const roots: string[] = [];

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

/** Bytes left, -1 for no limit, on a machine with these files. */
function available(files: Readonly<Record<string, string>>): number {
  const root = mkdtempSync(join(tmpdir(), "polypaca-cgroup-"));
  roots.push(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return Number(probe("cgroup_available", { fileSystem: root }).value);
}

describe("control groups of version 2", () => {
  const membership = { "proc/self/cgroup": "0::/slurm/job_7\n" };
  const job = "sys/fs/cgroup/slurm/job_7";

  it("leave the limit less what is used", () => {
    expect(available({ ...membership, [`${job}/memory.max`]: "1000000\n", [`${job}/memory.current`]: "300000\n" })).toBe(700_000);
  });

  it("count page cache as free", () => {
    const stat = "anon 100000\nfile 190000\ninactive_file 150000\nactive_file 50000\n";
    const files = { [`${job}/memory.max`]: "1000000\n", [`${job}/memory.current`]: "300000\n", [`${job}/memory.stat`]: stat };
    expect(available({ ...membership, ...files })).toBe(900_000);
  });

  it("are limited by the tightest group above them", () => {
    const own = { [`${job}/memory.max`]: "1000000\n", [`${job}/memory.current`]: "300000\n" };
    const parent = { "sys/fs/cgroup/slurm/memory.max": "500000\n", "sys/fs/cgroup/slurm/memory.current": "400000\n" };
    expect(available({ ...membership, ...own, ...parent })).toBe(100_000);
  });

  it("leave nothing where more is used than is allowed", () => {
    expect(available({ ...membership, [`${job}/memory.max`]: "1000000\n", [`${job}/memory.current`]: "1200000\n" })).toBe(0);
  });

  it('do not limit where memory.max is "max", at any level', () => {
    const own = { [`${job}/memory.max`]: "max\n", [`${job}/memory.current`]: "300000\n" };
    expect(available({ ...membership, ...own, "sys/fs/cgroup/slurm/memory.max": "max\n" })).toBe(-1);
  });

  it("limit a container, which sees its own group as the root", () => {
    const files = { "sys/fs/cgroup/memory.max": "800000\n", "sys/fs/cgroup/memory.current": "100000\n" };
    expect(available({ "proc/self/cgroup": "0::/\n", ...files })).toBe(700_000);
  });
});

describe("control groups of version 1", () => {
  const membership = { "proc/self/cgroup": "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n1:name=systemd:/docker/ab\n" };
  const group = "sys/fs/cgroup/memory/docker/ab";

  it("leave the limit less what is used, page cache of the groups below included", () => {
    const stat = "inactive_file 1\nactive_file 1\ntotal_inactive_file 60000\ntotal_active_file 40000\n";
    const files = {
      [`${group}/memory.limit_in_bytes`]: "1000000\n",
      [`${group}/memory.usage_in_bytes`]: "300000\n",
      [`${group}/memory.stat`]: stat,
    };
    expect(available({ ...membership, ...files })).toBe(800_000);
  });

  it("limit a container whose group's path is not mounted inside it", () => {
    const files = { "sys/fs/cgroup/memory/memory.limit_in_bytes": "800000\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "100000\n" };
    expect(available({ ...membership, ...files })).toBe(700_000);
  });

  it("do not limit by the largest number, which stands for no limit", () => {
    const files = { [`${group}/memory.limit_in_bytes`]: "9223372036854771712\n", [`${group}/memory.usage_in_bytes`]: "300000\n" };
    expect(available({ ...membership, ...files })).toBe(-1);
  });

  it("do not limit by groups of other controllers", () => {
    const other = "sys/fs/cgroup/memory/other";
    const files = { [`${other}/memory.limit_in_bytes`]: "10\n", [`${other}/memory.usage_in_bytes`]: "1\n" };
    expect(available({ "proc/self/cgroup": "5:cpu,cpuacct:/other\n", ...files })).toBe(-1);
  });
});

describe("a machine without control groups", () => {
  it("has no limit", () => {
    expect(available({})).toBe(-1);
  });
});
