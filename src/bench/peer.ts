/** PyTorch beside us: runs bench/peers/torch_peer.py on the same shapes, in turn with our own rounds. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { PolypacaError } from "../errors.js";
import type { Method } from "../families/work.js";
import type { ComputeDType } from "../native/addon-types.js";
import { packageRoot } from "../native/load.js";
import { isCuda } from "../native/model.js";
import { type BenchCase, type BenchShape, stepTokens } from "./cases.js";
import { spreadOf } from "./statistics.js";

/** mixed: fp32 weights under bf16 autocast, our bf16's numerics; pure: all in bf16; fp32. */
export type PeerNumerics = "mixed" | "pure" | "fp32";

export interface PeerReport {
  /** null where it could run; else what is missing and how to get it. */
  readonly problem: string | null;
  /** Which Python, PyTorch and model code ran: "PyTorch 1.13.0, plain PyTorch models, eager, attention …". */
  readonly implementation: string | null;
  readonly cases: readonly PeerCase[];
  readonly ratios: readonly PeerRatio[];
  /** Cases the peer did not run, and why. */
  readonly skipped: readonly string[];
}

export interface PeerCase {
  readonly arch: string;
  readonly shape: string;
  readonly method: Method;
  readonly numerics: PeerNumerics;
  /** GPU: "eager", "torch.compile", "Liger", …, each a case of its own. CPU: null, the script kept the faster one and names it. */
  readonly form: string | null;
  readonly tokensPerSecond: number;
  readonly stepSeconds: number;
  readonly stepSecondsLow: number;
  readonly stepSecondsHigh: number;
  readonly steps: number;
  readonly peakMemoryBytes: number;
  readonly implementation: string;
}

/** Ours over the peer's: above 1 in speed and below 1 in memory is better. */
export interface PeerRatio {
  readonly key: string;
  readonly numerics: PeerNumerics;
  readonly form: string | null;
  /** True for the peer's fastest variant of the case. */
  readonly isFastest: boolean;
  readonly tokensPerSecond: number;
  readonly peakMemory: number;
}

interface MeasuredForm {
  readonly name: string | null;
  readonly seconds: readonly number[];
  readonly peakMemoryBytes: number;
}

interface PeerReply {
  /** Of the fastest form. */
  readonly seconds: readonly number[];
  readonly peakMemoryBytes: number;
  readonly implementation: string;
  /** GPU only. */
  readonly forms?: readonly MeasuredForm[];
  /** Forms that did not run, and why. */
  readonly failedForms?: readonly string[];
}

interface PeerJob {
  /** Of the case of ours that it stands against. */
  readonly key: string;
  readonly shape: BenchShape;
  readonly method: Method;
  readonly numerics: PeerNumerics;
  readonly arguments: readonly string[];
}

/** Measured steps of a peer process, after its warm-up. On the CPU it has three turns in a run, on a GPU one. */
const stepsPerProcess = { cpu: 3, gpu: 12 };
const supported = ["bloom", "gpt_neox", "llama"];

const script = (): string => join(packageRoot(), "bench/peers/torch_peer.py");

export class Peer {
  readonly #python: string;
  readonly #threads: number;
  readonly #jobs: readonly PeerJob[];
  readonly #replies = new Map<PeerJob, PeerReply[]>();
  readonly #failures = new Map<PeerJob, string>();
  readonly #skipped: readonly string[];

  private constructor(python: string, threads: number, cases: readonly BenchCase[]) {
    this.#python = python;
    this.#threads = threads;
    this.#jobs = cases.filter((benchCase) => reasonToSkip(benchCase) === null).flatMap(jobsOf);
    this.#skipped = cases.flatMap((benchCase) => {
      const reason = reasonToSkip(benchCase);
      return reason === null ? [] : [`${benchCase.key}: ${reason}`];
    });
  }

  /**
   * Finds a Python with PyTorch: POLYPACA_PYTHON alone where it is set, else python3 of the path, else Debian's.
   *
   * @returns the peer, or why there is none and how to get it
   */
  static async find(cases: readonly BenchCase[], threads: number): Promise<Peer | { readonly problem: string }> {
    const wanted = process.env.POLYPACA_PYTHON;
    const problems: string[] = [];
    for (const python of wanted ? [wanted] : ["python3", "/usr/bin/python3"]) {
      try {
        await runScript(python, ["--describe", "--device", cases[0]?.device ?? "cpu"]);
        return new Peer(python, threads, cases);
      } catch (cause) {
        problems.push(`${python}: ${PolypacaError.from(cause).message}`);
      }
    }
    const advice = "On Debian: apt-get install python3-torch python3-numpy libopenblas0-openmp. POLYPACA_PYTHON names another Python.";
    return { problem: `PyTorch cannot be run beside polypaca (${problems.join("; ")}). ${advice}` };
  }

  /** Runs every variant of these cases once, each in a process of its own. */
  async round(cases: readonly BenchCase[], signal?: AbortSignal): Promise<void> {
    const keys = new Set(cases.map(({ key }) => key));
    for (const job of this.#jobs.filter(({ key }) => keys.has(key))) {
      if (this.#failures.has(job)) continue;
      try {
        const reply = (await runScript(
          this.#python,
          [...job.arguments, "--threads", String(this.#threads)],
          signal,
        )) as unknown as PeerReply;
        this.#replies.set(job, [...(this.#replies.get(job) ?? []), reply]);
      } catch (cause) {
        const error = PolypacaError.from(cause);
        if (error.code === "CANCELLED") throw error;
        this.#failures.set(job, error.message);
      }
    }
  }

  /** @param ours results by case key */
  report(
    ours: ReadonlyMap<string, { readonly tokensPerSecond: number; readonly peakMemoryBytes: number }>,
    cases: readonly BenchCase[],
  ): PeerReport {
    const measured = this.#jobs.flatMap((job) => {
      const replies = this.#replies.get(job);
      return replies && !this.#failures.has(job) ? peerCases(job, replies).map((result) => ({ job, result })) : [];
    });
    const ratios = cases.flatMap((benchCase) => {
      const own = ours.get(benchCase.key);
      const rivals = measured.filter(({ job }) => job.key === benchCase.key);
      const best = Math.max(...rivals.map(({ result }) => result.tokensPerSecond));
      if (!own) return [];
      return rivals.map(({ result }) => ({
        key: benchCase.key,
        numerics: result.numerics,
        form: result.form,
        isFastest: result.tokensPerSecond === best,
        tokensPerSecond: own.tokensPerSecond / result.tokensPerSecond,
        peakMemory: own.peakMemoryBytes / result.peakMemoryBytes,
      }));
    });
    const failed = [...this.#failures].map(
      ([{ shape, method, numerics }, message]) => `${shape.description}, ${method} ${numerics}: ${message}`,
    );
    const failedForms = [...this.#replies].flatMap(([{ shape, method, numerics }, replies]) =>
      replies.flatMap((reply) => (reply.failedForms ?? []).map((line) => `${shape.description}, ${method} ${numerics}: ${line}`)),
    );
    return {
      problem: null,
      implementation: [...new Set(measured.map(({ result }) => result.implementation))].join("; ") || null,
      cases: measured.map(({ result }) => result),
      ratios,
      skipped: [...this.#skipped, ...failed, ...failedForms],
    };
  }
}

export function absentPeer(problem: string): PeerReport {
  return { problem, implementation: null, cases: [], ratios: [], skipped: [] };
}

function reasonToSkip({ shape, device }: BenchCase): string | null {
  if (device === "cuda-emulated") return "PyTorch has no such device";
  return supported.includes(shape.spec.modelType) ? null : "the peer script has no such model";
}

/** Which of the peer's variants a dtype of ours is held against. */
export function numericsOf(dtype: ComputeDType): readonly PeerNumerics[] {
  return dtype === "bf16" ? ["mixed", "pure"] : ["fp32"];
}

function jobsOf({ key, shape, method, dtype, device, lora }: BenchCase): PeerJob[] {
  const { modelType, hiddenSize, layers, heads, kvHeads, intermediateSize, vocabSize } = shape.spec;
  const numbers = {
    ...{ hidden: hiddenSize, layers, heads, "kv-heads": kvHeads, intermediate: intermediateSize, vocab: vocabSize },
    ...{ seq: shape.rowTokens, "micro-batch": shape.microBatch },
    steps: isCuda(device) ? stepsPerProcess.gpu : stepsPerProcess.cpu,
    ...{ "lora-rank": lora.rank, "lora-dropout": lora.dropout },
  };
  const sizes = Object.entries(numbers).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  return numericsOf(dtype).map((numerics) => ({
    ...{ key, shape, method, numerics },
    arguments: ["--arch", modelType, "--method", method, "--numerics", numerics, ...sizes, "--device", device],
  }));
}

/** One for each form that was timed. */
function peerCases({ shape, method, numerics }: PeerJob, replies: readonly PeerReply[]): PeerCase[] {
  const measured = replies.flatMap((reply): readonly MeasuredForm[] => reply.forms ?? [{ ...reply, name: null }]);
  return [...new Set(measured.map(({ name }) => name))].map((form) => {
    const own = measured.filter(({ name }) => name === form);
    const { median, low, high, count } = spreadOf(own.flatMap(({ seconds }) => seconds));
    return {
      ...{ arch: shape.spec.modelType, shape: shape.description, method, numerics, form },
      tokensPerSecond: stepTokens(shape) / median,
      ...{ stepSeconds: median, stepSecondsLow: low, stepSecondsHigh: high, steps: count },
      peakMemoryBytes: Math.max(...own.map(({ peakMemoryBytes }) => peakMemoryBytes)),
      implementation: replies[0]!.implementation,
    };
  });
}

/** The script's answer is the last line of its stdout, one JSON object; `error` in it says what is missing. */
async function runScript(python: string, args: readonly string[], signal?: AbortSignal): Promise<Record<string, unknown>> {
  const child = spawn(python, [script(), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: process.env,
    ...(signal && { signal, killSignal: "SIGKILL" as const }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = await new Promise<{ readonly code: number | null } | { readonly failure: Error }>((resolve) => {
    child.once("error", (failure) => resolve({ failure }));
    child.once("close", (code) => resolve({ code }));
  });
  if (signal?.aborted) throw new PolypacaError("CANCELLED", "stopped while PyTorch ran");
  if ("failure" in ended) throw new PolypacaError("NOT_FOUND", `it cannot be started (${ended.failure.message})`);
  const reply = lastJson(stdout);
  if (typeof reply?.error === "string") throw new PolypacaError("NOT_FOUND", reply.error);
  if (ended.code === 0 && reply) return reply;
  const reason = stderr.trim().split("\n").at(-1) || `exit code ${ended.code}`;
  throw new PolypacaError("INTERNAL", `torch_peer.py: ${reason}`);
}

function lastJson(text: string): Record<string, unknown> | null {
  try {
    return JSON.parse(text.trim().split("\n").at(-1) ?? "") as Record<string, unknown>;
  } catch {
    return null;
  }
}
