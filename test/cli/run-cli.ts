/** Runs the compiled program as a user's shell would. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
export const program = join(root, "dist/cli/main.js");

/** Compiles src into dist where dist is older; for beforeAll. */
export function compile(): void {
  const compiledAt = existsSync(program) ? statSync(program).mtimeMs : 0;
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" });
  if (sources.every((name) => statSync(join(root, "src", name)).mtimeMs <= compiledAt)) return;
  const { status, stdout } = spawnSync(process.execPath, [join(root, "node_modules/.bin/tsc"), "-p", root], { encoding: "utf8" });
  if (status !== 0) throw new Error(`tsc failed:\n${stdout}`);
}

export interface CliResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The user's cache folder is left alone. */
export const testEnvironment: NodeJS.ProcessEnv = { ...process.env, XDG_CACHE_HOME: join(tmpdir(), "polypaca-test-cache") };

export function runCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): CliResult {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: "utf8",
    env: { ...testEnvironment, ...env },
  });
  return { exitCode: status, stdout, stderr };
}

export interface RunningCli {
  readonly child: ChildProcess;
  /** Its exit code, or the signal that ended it, and what it wrote. */
  readonly ended: Promise<{ readonly exitCode: number | string | null; readonly stdout: string; readonly stderr: string }>;
}

/** As {@link runCli}, while the test goes on: it may be the server that the program talks to. */
export function startCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): RunningCli {
  const child = spawn(process.execPath, [program, ...args], { env: { ...testEnvironment, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      written[name] += text;
    });
  }
  const ended = new Promise<Awaited<RunningCli["ended"]>>((resolve) =>
    child.on("close", (code, signal) => resolve({ exitCode: code ?? signal, ...written })),
  );
  return { child, ended };
}
