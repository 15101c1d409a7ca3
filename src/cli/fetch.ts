import { homedir } from "node:os";
import type { Command } from "commander";
import type { FetchResult } from "../fetch/fetch.js";
import { type FetchSettings, type RepositoryKind, repositoryKinds } from "../fetch/settings.js";
import { choiceFlag, formatBytes, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

export function registerFetch(program: Command): void {
  program
    .command("fetch")
    .summary("fetch a model or data from a Hugging Face compatible hub")
    .description(
      "Fetches a model (weights, configuration, tokenizer, licence) or data (.json and .jsonl files) into a new folder, which is complete or " +
        "absent: every file is checked by its hash, and a fetch that was stopped goes on where it was. The hub is HF_ENDPOINT " +
        "(default: https://huggingface.co), the token HF_TOKEN or that of Hugging Face's own tools.",
    )
    .argument("<KIND>", "model or data", choiceFlag("fetch", repositoryKinds))
    .argument("<REPO>", "namespace/name, or namespace/name@revision (a branch, tag or commit)")
    .option("--out <DIR>", "new folder (default: the repository's name)")
    .option("--files <PATTERN...>", "data: of the .json and .jsonl files those that match, such as 'data/alpaca.*.json'")
    .option("--include <PATTERN...>", "further files that match, such as '*.py' or 'original/**'")
    .option("--concurrency <N>", "files at a time", numberFlag("--concurrency", { integer: true, min: 1 }), 4)
    .option("--max-retries <N>", "further attempts of a request that failed", numberFlag("--max-retries", { integer: true, min: 0 }), 8)
    .option("--timeout <SECONDS>", "longest wait for an answer, or for its next bytes", numberFlag("--timeout", { min: 0.001 }), 60)
    .option("--json", "print the result as JSON")
    .action(async (kind: RepositoryKind, repo: string, { json, maxRetries, timeout, ...flags }: FetchFlags) => {
      const [{ fetchRepository }, { hubEndpoint, hubToken }, { openProgress }, { defaultRetryPolicy }] = await Promise.all([
        import("../fetch/fetch.js"),
        import("../fetch/settings.js"),
        import("../train/progress.js"),
        import("../endpoint/retry.js"),
      ]);
      const settings: FetchSettings = { kind, repo, ...flags };
      const hub = { endpoint: hubEndpoint(process.env), token: await hubToken(process.env, homedir()) };
      const result = await stoppable((signal) =>
        fetchRepository(settings, {
          ...{ ...hub, signal, note, now: Date.now, random: Math.random },
          openProgress: (task) => openProgress(task, progressOutput()),
          ...{ retry: { ...defaultRetryPolicy, maxRetries }, timeoutMs: 1000 * timeout },
        }),
      );
      printResult(json === true, result, () => describe(result));
    });
}

interface FetchFlags {
  readonly out?: string;
  readonly files?: readonly string[];
  readonly include?: readonly string[];
  readonly concurrency: number;
  readonly maxRetries: number;
  readonly timeout: number;
  readonly json?: true;
}

function describe({ repository, revision, commit, licence, out, files, bytes, fetchedBytes }: FetchResult): string {
  const came = fetchedBytes === 0 ? "everything is there" : `${formatBytes(fetchedBytes)} fetched now`;
  return [
    `${out}: ${repository}@${revision} (${commit.slice(0, 10)}), ${files.length} files, ${formatBytes(bytes)}; ${came}`,
    `licence: ${licence ?? "none named on the card"}`,
  ].join("\n");
}
