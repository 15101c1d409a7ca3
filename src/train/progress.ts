/** Shows how far long work is: a bar on a terminal, a plain line now and then elsewhere (Slurm logs, pipes). */
import { SingleBar } from "cli-progress";

export interface ProgressOutput {
  readonly stream: NodeJS.WritableStream;
  readonly isTerminal: boolean;
  /** Milliseconds of any steady clock. */
  readonly now: () => number;
  /** Least time between two plain lines. Default 10,000. */
  readonly plainEveryMs?: number;
}

export interface Progress {
  /** `detail` is what stands beside the count: "loss 1.234, 910 tokens/s". */
  update(done: number, detail: string): void;
  /** A line of its own that stays. */
  note(line: string): void;
  stop(): void;
}

/** @param task what `label` counts, from `start` (work done before this process) to `total` */
export function openProgress(
  task: { readonly label: string; readonly start: number; readonly total: number },
  output: ProgressOutput,
): Progress {
  const began = output.now();
  const eta = (done: number): string => {
    const fresh = done - task.start;
    return fresh <= 0 ? "?" : formatDuration(((output.now() - began) / fresh) * (task.total - done));
  };
  return output.isTerminal ? terminalProgress(task, output, eta) : plainProgress(task, output, eta);
}

type Task = Parameters<typeof openProgress>[0];

function terminalProgress({ label, start, total }: Task, { stream }: ProgressOutput, eta: (done: number) => string): Progress {
  const bar = new SingleBar({
    format: `${label} {bar} {value}/{total} | {detail} | ETA {left}`,
    ...{ stream, barsize: 24, barCompleteChar: "█", barIncompleteChar: "░", hideCursor: null },
    ...{ clearOnComplete: true, gracefulExit: false }, // a signal stops the work, which stops the bar
  });
  let latest = { done: start, detail: "" };
  const draw = (): void => bar.start(total, latest.done, { detail: latest.detail, left: eta(latest.done) });
  draw();
  return {
    update: (done, detail) => {
      latest = { done, detail };
      bar.update(done, { detail, left: eta(done) });
    },
    note: (line) => {
      // The bar remembers where on the screen it began, so it has to begin anew below the line.
      bar.stop();
      stream.write(`${line}\n`);
      draw();
    },
    stop: () => bar.stop(),
  };
}

function plainProgress({ label, start, total }: Task, output: ProgressOutput, eta: (done: number) => string): Progress {
  const every = output.plainEveryMs ?? 10_000;
  let shownAt = Number.NEGATIVE_INFINITY;
  let shown = start;
  let latest = { done: start, detail: "" };
  const show = (): void => {
    shown = latest.done;
    shownAt = output.now();
    output.stream.write(`${label} ${latest.done}/${total}, ${latest.detail}, ETA ${eta(latest.done)}\n`);
  };
  return {
    update: (done, detail) => {
      latest = { done, detail };
      if (done === total || output.now() - shownAt >= every) show();
    },
    note: (line) => void output.stream.write(`${line}\n`),
    stop: () => {
      if (shown !== latest.done) show();
    },
  };
}

/** 59 → "59s", 61 → "1m01s", 3661 → "1h01m". */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds}s`;
  const pad = (value: number): string => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${pad(seconds % 60)}s`;
  return `${Math.floor(seconds / 3600)}h${pad(Math.floor((seconds % 3600) / 60))}m`;
}
