import type { Command } from "commander";
import type { ResponseFormat } from "../endpoint/chat-completion.js";
import { PolypacaError } from "../errors.js";
import type { LanguageSummary } from "../translate/language-run.js";
import type { TranslationProvider } from "../translate/providers/provider.js";
import type { TranslateEnvironment } from "../translate/settings.js";
import type { TranslateSummary } from "../translate/translate.js";
import { choiceFlag, commaList, note, numberFlag, printResult, progressOutput, stoppable } from "./output.js";

const providerNames = ["openai", "command", "libretranslate", "files"] as const;
type ProviderName = (typeof providerNames)[number];

export function registerTranslate(program: Command): void {
  const count = (flag: string, min = 1) => numberFlag(flag, { integer: true, min });
  program
    .command("translate")
    .summary("make the other languages' data")
    .description("Translates Alpaca data, one alpaca.<lang>.json per language. What was translated is kept and never asked for again.")
    .requiredOption("--data <FILE>", "Alpaca JSON or JSONL of one language")
    .option("--source <CODE>", "its language (default: the code in the file name, else en)")
    .option("--langs <A,B>", "languages to translate into", commaList)
    .option("--out <DIR>", "folder for translations, quality reports and journals")
    .option("--provider <NAME>", `what translates: ${providerNames.join(", ")}`, choiceFlag("--provider", providerNames))
    .option("--model <NAME>", "openai: the model. command: a name for it in the journal (default: the command itself)")
    .option("--base-url <URL>", "openai: the endpoint (default: OPENAI_BASE_URL, or OpenAI's). libretranslate: the server", urlFlag)
    .option("--api-key-env <NAME>", "environment variable with the API key (default: OPENAI_API_KEY, LIBRETRANSLATE_API_KEY)")
    .option("--command <LINE>", "command: reads a line, writes a line; {source} and {target} stand for the codes")
    .option("--files <PATH>", "files: translations made elsewhere, JSONL of {id, translation} or plain lines; {target} stands for the code")
    .option("--segments <FILE>", "files: the source lines that plain lines are joined with")
    .option("--export-segments <FILE>", "write what is to be translated (.jsonl: {id, text}, else plain lines) and stop")
    .option("--concurrency <N>", "requests, or lines, at a time (default: openai 8, libretranslate 4, command 64)", count("--concurrency"))
    .option("--requests-per-minute <N>", "at most so many requests", numberFlag("--requests-per-minute", { min: 1 }))
    .option("--tokens-per-minute <N>", "openai: at most so many tokens, in and out", numberFlag("--tokens-per-minute", { min: 1 }))
    .option("--max-retries <N>", "further attempts of a request that failed", count("--max-retries", 0), 8)
    .option("--timeout <SECONDS>", "longest wait for an answer (default: 60, command 300)", numberFlag("--timeout", { min: 0.001 }))
    .option("--max-characters <N>", "longest segment (default: 2000, libretranslate and command 1000)", count("--max-characters", 16))
    .option(
      "--sentences <HOW>",
      "joined or single per segment (default: joined, command and files single)",
      choiceFlag("--sentences", ["joined", "single"]),
    )
    .option(
      "--response-format <FORM>",
      "openai: json_object, json_schema or none",
      choiceFlag("--response-format", ["json_object", "json_schema", "none"]),
    )
    .option("--temperature <X>", "openai: sent where given", numberFlag("--temperature", { min: 0 }))
    .option("--batch", "openai: over the Batch API, at half the price, within 24 hours")
    .option("--price-input <X>", "per million tokens in, to show the cost", numberFlag("--price-input", { min: 0 }))
    .option("--price-output <X>", "per million tokens out", numberFlag("--price-output", { min: 0 }))
    .option("--retry [N]", "ask again for the segments of flagged records, up to N times (1)", (text: string) => count("--retry", 0)(text))
    .option("--drop", "leave out flagged records, and those of which a segment failed")
    .option("--skip-bad-records", "leave malformed records out and list them")
    .option("--json", "print the result as JSON")
    .action(async (flags: TranslateFlags) => {
      await stoppable((signal) =>
        flags.exportSegments === undefined ? runTranslate(flags, signal) : runExport(flags, flags.exportSegments, signal),
      );
    });
}

function urlFlag(text: string): string {
  if (/^https?:\/\//.test(text) && URL.canParse(text)) return text;
  throw new PolypacaError("USAGE", `--base-url ${text}: expected an address such as http://127.0.0.1:8000/v1.`);
}

interface TranslateFlags {
  readonly data: string;
  readonly source?: string;
  readonly langs?: readonly string[];
  readonly out?: string;
  readonly provider?: ProviderName;
  readonly model?: string;
  readonly baseUrl?: string;
  readonly apiKeyEnv?: string;
  readonly command?: string;
  readonly files?: string;
  readonly segments?: string;
  readonly exportSegments?: string;
  readonly concurrency?: number;
  readonly requestsPerMinute?: number;
  readonly tokensPerMinute?: number;
  readonly maxRetries: number;
  readonly timeout?: number;
  readonly maxCharacters?: number;
  readonly sentences?: "joined" | "single";
  readonly responseFormat?: ResponseFormat;
  readonly temperature?: number;
  readonly batch?: true;
  readonly priceInput?: number;
  readonly priceOutput?: number;
  readonly retry?: number | true;
  readonly drop?: true;
  readonly skipBadRecords?: true;
  readonly json?: true;
}

async function runTranslate(flags: TranslateFlags, signal: AbortSignal): Promise<void> {
  const { translate } = await import("../translate/translate.js");
  const { openProgress } = await import("../train/progress.js");
  const { data, retry = 0, priceInput, priceOutput } = flags;
  const [targets, out] = [needed(flags.langs, "--langs A,B"), needed(flags.out, "--out DIR")];
  const settings = {
    ...{ data, targets, out, source: flags.source ?? null, skipBadRecords: flags.skipBadRecords === true },
    ...{ retry: retry === true ? 1 : retry, drop: flags.drop === true },
    prices: priceInput === undefined && priceOutput === undefined ? null : { input: priceInput ?? 0, output: priceOutput ?? 0 },
  };
  const environment: TranslateEnvironment = {
    ...{ signal, note, now: Date.now, random: Math.random },
    openProgress: (task) => openProgress(task, progressOutput()),
  };
  const summary = await translate(settings, await openProvider(flags, targets), environment);
  printResult(flags.json === true, summary, () => describe(summary));
}

async function runExport(flags: TranslateFlags, file: string, signal: AbortSignal): Promise<void> {
  const { exportSegments } = await import("../translate/translate.js");
  const { data, source = null, skipBadRecords, maxCharacters = defaultMaxCharacters, sentences } = flags;
  const settings = { data, source, skipBadRecords: skipBadRecords === true, file, maxCharacters, joinSentences: sentences === "joined" };
  const result = await exportSegments(settings, { note, signal });
  printResult(flags.json === true, result, () => `${result.file}: ${result.segments} segments`);
}

const defaultMaxCharacters = 2_000;

async function openProvider(flags: TranslateFlags, targets: readonly string[]): Promise<TranslationProvider> {
  switch (needed(flags.provider, `--provider ${providerNames.join("|")}`)) {
    case "openai":
      return await openAi(flags);
    case "command":
      return await command(flags);
    case "libretranslate":
      return await libreTranslate(flags);
    case "files":
      return await files(flags, targets);
  }
}

async function openAi(flags: TranslateFlags): Promise<TranslationProvider> {
  const { apiKeyFrom } = await import("../endpoint/openai-client.js");
  const { openAiProvider } = await import("../translate/providers/openai.js");
  const settings = {
    model: needed(flags.model, "--model NAME"),
    apiKey: apiKeyFrom(process.env, flags.apiKeyEnv ?? "OPENAI_API_KEY"),
    ...{ baseUrl: flags.baseUrl ?? null, responseFormat: flags.responseFormat ?? "json_object", temperature: flags.temperature ?? null },
    ...{ ...(await retries(flags, 60)), ...segmentation(flags, defaultMaxCharacters, true) },
  };
  if (flags.batch === true) {
    const { openAiBatchProvider } = await import("../translate/providers/openai-batch.js");
    return openAiBatchProvider({ ...settings, pollMs: 30_000, batchSize: 50_000 });
  }
  const { concurrency = 8, requestsPerMinute = null, tokensPerMinute = null } = flags;
  return openAiProvider({ ...settings, concurrency, requestsPerMinute, tokensPerMinute });
}

async function command(flags: TranslateFlags): Promise<TranslationProvider> {
  const { commandProvider } = await import("../translate/providers/command.js");
  const { model = null, concurrency = 64, timeout = 300 } = flags;
  return commandProvider({
    ...{ command: needed(flags.command, "--command LINE"), model, concurrency },
    ...{ timeoutMs: 1000 * timeout, flushAfterMs: 10_000, ...segmentation(flags, 1_000, false) },
  });
}

async function libreTranslate(flags: TranslateFlags): Promise<TranslationProvider> {
  const { libreTranslateProvider } = await import("../translate/providers/libretranslate.js");
  const { concurrency = 4, requestsPerMinute = null, apiKeyEnv = "LIBRETRANSLATE_API_KEY" } = flags;
  const apiKey = process.env[apiKeyEnv] ?? null;
  if (apiKey === null && flags.apiKeyEnv !== undefined)
    throw new PolypacaError("USAGE", `--api-key-env ${apiKeyEnv}: the environment variable is not set.`);
  return libreTranslateProvider({
    ...{ baseUrl: needed(flags.baseUrl, "--base-url URL"), apiKey, concurrency, requestsPerMinute },
    ...{ ...(await retries(flags, 60)), ...segmentation(flags, 1_000, true) },
  });
}

async function files(flags: TranslateFlags, targets: readonly string[]): Promise<TranslationProvider> {
  const { filesProvider } = await import("../translate/providers/files.js");
  const path = needed(flags.files, "--files PATH");
  if (!path.includes("{target}") && targets.length > 1)
    throw new PolypacaError(
      "USAGE",
      `--files ${path}: with several --langs it has to hold {target}, which stands for the language's code.`,
    );
  return await filesProvider(
    { files: path, segments: flags.segments ?? null, ...segmentation(flags, defaultMaxCharacters, false) },
    targets,
  );
}

async function retries({ maxRetries, timeout }: TranslateFlags, seconds: number) {
  const { defaultRetryPolicy } = await import("../endpoint/retry.js");
  return { timeoutMs: 1000 * (timeout ?? seconds), retry: { ...defaultRetryPolicy, maxRetries } };
}

function segmentation({ maxCharacters, sentences }: TranslateFlags, most: number, isJoined: boolean) {
  return { maxCharacters: maxCharacters ?? most, joinSentences: sentences === undefined ? isJoined : sentences === "joined" };
}

function needed<T>(value: T | undefined, flag: string): T {
  if (value !== undefined) return value;
  throw new PolypacaError("USAGE", `${flag} is missing.`);
}

function describe({ languages, usage, out }: TranslateSummary): string {
  const blocks = Object.entries(languages).map(([code, summary]) => describeLanguage(code, summary));
  if (usage !== null) {
    const cost = usage.cost === null ? "" : `, cost ${usage.cost.toFixed(usage.cost < 1 ? 4 : 2)}`;
    blocks.push(`usage: ${usage.answers} answers, ${usage.inputTokens} tokens in, ${usage.outputTokens} out${cost}`);
  }
  return [...blocks, `reports and journals: ${out}`].join("\n");
}

const shownCharacters = 100;

function describeLanguage(
  code: string,
  { file, records, segments, translated, reused, flagged, dropped, quality }: LanguageSummary,
): string {
  const left = dropped > 0 ? `, ${dropped} records left out` : "";
  const lines = [
    `${code}: ${file}: ${records} records; ${segments} segments, ${translated} translated, ${reused} from the journal; ${flagged} records flagged${left}`,
  ];
  const flags = Object.entries(quality.flags).filter(([, count]) => count > 0);
  if (flags.length > 0) lines.push(`  flags: ${flags.map(([flag, count]) => `${flag} ${count}`).join(", ")}`);
  for (const { flag, id, field, detail, source, translation } of quality.examples) {
    lines.push(
      `  ${flag}, record ${id}${field === null ? "" : `, ${field}`}: ${detail}`,
      `    ${shown(source)}`,
      `    ${shown(translation)}`,
    );
  }
  return lines.join("\n");
}

function shown(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > shownCharacters ? `${line.slice(0, shownCharacters)}…` : line;
}
