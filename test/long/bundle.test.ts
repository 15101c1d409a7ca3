/** The offline bundle on a machine that has a compiler and nothing else: no node, no npm, no CMake, no network. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { bundleFolder, makeBundle } from "../../src/bundle/bundle.js";
import { compile } from "../cli/run-cli.js";

const absentTools = /^(node|nodejs|npm|npx|corepack|cmake|ctest|cpack|nvcc)$/;
const base = mkdtempSync(join(tmpdir(), "polypaca-bundle-"));
const bundle = join(base, bundleFolder);

/** A PATH of the system's tools without those above. */
function bareTools(): string {
  const tools = join(base, "tools");
  mkdirSync(tools);
  for (const folder of ["/usr/bin", "/bin"]) {
    for (const name of readdirSync(folder)) {
      if (!absentTools.test(name) && !existsSync(join(tools, name))) symlinkSync(join(folder, name), join(tools, name));
    }
  }
  return tools;
}

/** Without a network where this system lets us go without, else with every registry and proxy pointing nowhere. */
function alone(command: string, args: readonly string[]): { readonly status: number | null; readonly output: string } {
  const nowhere = "http://127.0.0.1:9";
  const env = {
    PATH: join(base, "tools"),
    HOME: join(base, "home"),
    npm_config_registry: nowhere,
    http_proxy: nowhere,
    https_proxy: nowhere,
  };
  const canUnshare = spawnSync("unshare", ["-rn", "true"]).status === 0;
  const line = canUnshare ? ["unshare", "-rn", command, ...args] : [command, ...args];
  const { status, stdout, stderr } = spawnSync(line[0]!, line.slice(1), { cwd: bundle, env, encoding: "utf8", maxBuffer: 2 ** 26 });
  return { status, output: `${stdout}\n${stderr}` };
}

const digest = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");

describe("the offline bundle", () => {
  beforeAll(() => {
    compile();
    mkdirSync(join(base, "home"));
    bareTools();
  });

  it("is the same, byte for byte, when made again", () => {
    const [first, second] = ["first.tar.xz", "second.tar.xz"].map((name) => makeBundle({ out: join(base, name), compression: "fast" }));
    expect(digest(second!.path)).toBe(digest(first!.path));
    expect(readdirSync(base).filter((name) => name.startsWith(".tmp-"))).toEqual([]);
    expect(spawnSync("tar", ["-xJf", first!.path, "-C", base]).status).toBe(0);
  });

  it("holds a Node that runs, headers, sources, goldens, the peer and every notice", () => {
    const node = alone(join(bundle, "node/bin/node"), ["--version"]);
    expect(node.output.trim()).toBe(process.version);
    for (const file of [
      ...["install.sh", "gpu-check.sh", "native/backend/backend.h", "test/goldens/06-llama-gqa/case.json", "bench/peers/torch_peer.py"],
      ...["node_modules/node-addon-api/napi.h", "node_modules/node-api-headers/include/node_api.h", "dist/cli/main.js", "docs/gpu.md"],
    ]) {
      expect(existsSync(join(bundle, file)), file).toBe(true);
    }
    const notices = readFileSync(join(bundle, "THIRD-PARTY-NOTICES.txt"), "utf8");
    for (const name of [`Node.js ${process.version}`, "zod ", "node-addon-api ", "vitest "]) expect(notices).toContain(name);
  });

  it("before it is installed says how to", () => {
    const { status, output } = alone(join(bundle, "node/bin/node"), [join(bundle, "dist/cli/main.js"), "doctor"]);
    expect(status).toBe(1);
    expect(output).toContain(`Run ${join(bundle, "install.sh")}.`);
  });

  it("installs with a C++ compiler alone, and says that it built the CPU back end", () => {
    const { status, output } = alone(join(bundle, "install.sh"), [join(base, "home/bin")]);
    expect(output).toContain("no CMake here: building the CPU back end");
    expect(output).toContain(`installed: ${join(base, "home/bin/polypaca")}`);
    expect(status).toBe(0);
  });

  it("then computes what PyTorch does, through the launcher", () => {
    const { status, output } = alone(join(base, "home/bin/polypaca"), ["verify", "test/goldens/06-llama-gqa"]);
    expect(output).toContain("1 passed, 0 failed");
    expect(status).toBe(0);
  });

  it("and runs the kernel tests that gpu-check runs", () => {
    const { status, output } = alone(join(bundle, "gpu-check.sh"), ["--device", "cpu", "--parts", "kernels", "--out", join(base, "check")]);
    expect(output).toContain("kernels: passed");
    expect(status).toBe(0);
    const report = JSON.parse(readFileSync(join(base, "check/gpu-check.json"), "utf8")) as { readonly bundle: object };
    expect(report.bundle).toMatchObject({ node: process.version, platform: `${process.platform}-${process.arch}` });
  });
});
