import { type Command, Option } from "commander";
import type { JudgeSummary } from "../evaluate/judge/judge.js";
import type { JudgeSettingName, SomeJudgeSettings } from "../evaluate/judge/settings.js";
import { note, numberOrText, printResult, progressOutput, stoppable } from "./output.js";

type FlagKind = "number" | "text" | "files" | "switch";

/** The settings as flags; names and values are those of evaluate/judge/settings.ts, which checks them. */
export const judgeFlags: readonly (readonly [JudgeSettingName, FlagKind, string, string])[] = [
  ["responses", "files", "FILE...", "responses, JSONL: of generate, or of the study's programs"],
  ["prompts", "files", "FILE...", "test prompts: the instructions of responses that come without theirs"],
  ["language", "text", "CODE", "of responses that do not say theirs (default: the file name, test_<code>.jsonl)"],
  ["system", "text", "NAME", "of responses that do not say theirs"],
  ["out", "text", "FILE", "judgements, JSONL"],
  ["journal", "text", "FILE", "where answers are kept (default: <out>.journal)"],
  ["model", "text", "NAME", "the judging model"],
  ["judge", "text", "NAME", "its name in the judgements (default: the model's)"],
  ["baseUrl", "text", "URL", "the endpoint (default: OPENAI_BASE_URL, or OpenAI's)"],
  ["apiKeyEnv", "text", "NAME", "environment variable with the API key (default: OPENAI_API_KEY)"],
  ["promptFile", "text", "FILE", "the judge's prompt (default: experiments/judge-prompt.md)"],
  ["repeat", "number", "K", "judgements of each pair (default: 1)"],
  ["concurrency", "number", "N", "requests at a time (default: 8)"],
  ["requestsPerMinute", "number", "N", "at most so many requests"],
  ["tokensPerMinute", "number", "N", "at most so many tokens, in and out"],
  ["maxRetries", "number", "N", "further attempts of a request that failed (default: 8)"],
  ["timeout", "number", "SECONDS", "longest wait for an answer (default: 60)"],
  ["responseFormat", "text", "FORM", "json_schema, json_object, none or auto: the first that the server takes (default: auto)"],
  ["temperature", "number", "X", "sent where given"],
  ["priceInput", "number", "X", "per million tokens in, to show the cost"],
  ["priceOutput", "number", "X", "per million tokens out"],
  ["batch", "switch", "", "over the Batch API, at half the price, within 24 hours"],
  ["retryUnparsable", "switch", "", "ask again for what earlier runs got no rating for"],
];

export function registerJudge(program: Command): void {
  const command = program
    .command("judge")
    .summary("have responses rated by a language model")
    .description(
      "Has each response rated from 1 to 3 by a model behind any OpenAI-compatible endpoint. What was judged is kept and never asked for again. Values come from --config, then the flags.",
    );
  for (const [name, kind, argument, description] of judgeFlags) command.addOption(optionFor(name, kind, argument, description));
  command.option("--config <FILE>", "YAML file with the same settings in camelCase").option("--json", "print the result as JSON");
  command.action(async (options: Record<string, unknown>) => {
    const { config, json, ...flags } = options;
    const [{ readConfigFile }, { checkJudgeSettings, resolveJudgeSettings }, { judge }, { openProgress }] = await Promise.all([
      import("../settings/config-file.js"),
      import("../evaluate/judge/settings.js"),
      import("../evaluate/judge/judge.js"),
      import("../train/progress.js"),
    ]);
    const fromFile = typeof config === "string" ? await readConfigFile(config, checkJudgeSettings) : {};
    const settings = resolveJudgeSettings(fromFile, flags as SomeJudgeSettings);
    const summary = await stoppable((signal) =>
      judge(settings, {
        ...{ signal, note, now: Date.now, random: Math.random, variables: process.env },
        openProgress: (task) => openProgress(task, progressOutput()),
      }),
    );
    printResult(json === true, summary, () => describe(summary));
    reportFailed(summary);
  });
}

function optionFor(name: JudgeSettingName, kind: FlagKind, argument: string, description: string): Option {
  const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const option = new Option(kind === "switch" ? flag : `${flag} <${argument}>`, description);
  return kind === "number" ? option.argParser(numberOrText) : option;
}

function describe({ out, judge, rows, judged, reused, unparsable, failed, usage }: JudgeSummary): string {
  const counts = [`${judged} judged`, `${reused} from the journal or equal pairs`, `${unparsable} without a rating`, `${failed} failed`];
  const lines = [`${out}: ${rows} judgements by ${judge}: ${counts.join(", ")}`];
  if (usage !== null) {
    const cost = usage.cost === null ? "" : `, cost ${usage.cost.toFixed(usage.cost < 1 ? 4 : 2)}`;
    lines.push(`usage: ${usage.answers} answers, ${usage.inputTokens} tokens in, ${usage.outputTokens} out${cost}`);
  }
  return lines.join("\n");
}

/** Not an error of its own: the rows were written, and say what is missing. */
function reportFailed({ out, rows, failed }: JudgeSummary): void {
  if (failed === 0) return;
  note(`incomplete: no answer came for ${failed} of ${rows} rows, see "error" in ${out}. Run the same command again to ask for them.`);
  process.exitCode = 1;
}
