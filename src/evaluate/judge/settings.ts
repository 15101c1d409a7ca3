/** Every setting of `judge`. Precedence: defaults < YAML file < command line. There is no default model: which one judges is a choice. */
import { z } from "zod";
import { responseFormats } from "../../endpoint/chat-completion.js";
import { PolypacaError } from "../../errors.js";
import { type CheckedSettings, checkSettings, flagOf } from "../../settings/check-settings.js";

const text = z.string().min(1);
const perMinute = z.number().min(1);
const price = z.number().nonnegative();

export const judgeSettingsSchema = z.strictObject({
  /** JSONL, as `readResponses` takes them. */
  responses: z.array(text).min(1),
  /** Test prompts: the instructions of responses that do not come with theirs. */
  prompts: z.array(text),
  /** Of responses that do not say theirs. */
  language: text.nullable(),
  /** Of responses that do not say theirs. */
  system: text.nullable(),
  /** Judgements, JSONL. */
  out: text,
  /** Where answers are kept; null: `<out>.journal`. Several judges may share one, one after the other. */
  journal: text.nullable(),
  model: text,
  /** Name in the judgements; null: the model's. */
  judge: text.nullable(),
  /** null: OpenAI's own, or OPENAI_BASE_URL. */
  baseUrl: z.url({ protocol: /^https?$/, error: "expected an address such as http://127.0.0.1:8000/v1" }).nullable(),
  /** Environment variable that holds the API key. */
  apiKeyEnv: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "expected the name of an environment variable"),
  /** null: the one that comes with polypaca. */
  promptFile: text.nullable(),
  /** Judgements of each pair. */
  repeat: z.int().min(1).max(1000),
  /** Requests at a time. */
  concurrency: z.int().min(1).max(1000),
  requestsPerMinute: perMinute.nullable(),
  /** In and out. */
  tokensPerMinute: perMinute.nullable(),
  /** Further attempts of a request that failed. */
  maxRetries: z.int().nonnegative(),
  /** Longest wait for an answer, seconds. */
  timeout: z.number().min(0.001),
  /** `auto`: json_schema, then json_object, then none, as far as the server takes it. */
  responseFormat: z.enum(["auto", ...responseFormats]),
  /** null: not sent, the endpoint's own default. */
  temperature: z.number().nonnegative().nullable(),
  /** Per million tokens; null for both: no cost is shown. */
  priceInput: price.nullable(),
  priceOutput: price.nullable(),
  /** Over the Batch API: at half the price, within 24 hours. */
  batch: z.boolean(),
  /** Ask again for what earlier runs got no rating for. */
  retryUnparsable: z.boolean(),
});

export type JudgeSettings = Readonly<z.infer<typeof judgeSettingsSchema>>;
export type JudgeSettingName = keyof JudgeSettings;
export type SomeJudgeSettings = { readonly [name in JudgeSettingName]?: JudgeSettings[name] | undefined };

export const judgeSettingNames = Object.keys(judgeSettingsSchema.shape) as readonly JudgeSettingName[];

export const judgeDefaults = {
  prompts: [] as readonly string[],
  ...{ language: null, system: null, journal: null, judge: null, baseUrl: null, promptFile: null },
  ...{ apiKeyEnv: "OPENAI_API_KEY", repeat: 1, concurrency: 8, requestsPerMinute: null, tokensPerMinute: null, maxRetries: 8 },
  ...{ timeout: 60, responseFormat: "auto", temperature: null, priceInput: null, priceOutput: null, batch: false, retryUnparsable: false },
} as const;

export function checkJudgeSettings(input: unknown): CheckedSettings<SomeJudgeSettings> {
  return checkSettings<SomeJudgeSettings>(judgeSettingsSchema.partial(), judgeSettingNames, input);
}

/**
 * Fills in the defaults.
 *
 * @throws PolypacaError `USAGE`, naming the flag, where a setting without a default is missing or a value is wrong
 */
export function resolveJudgeSettings(fromFile: SomeJudgeSettings, fromCommandLine: SomeJudgeSettings): JudgeSettings {
  const given = Object.fromEntries(Object.entries({ ...fromFile, ...fromCommandLine }).filter(([, value]) => value !== undefined));
  for (const name of ["responses", "out", "model"] as const) {
    if (given[name] === undefined) throw new PolypacaError("USAGE", `${flagOf(name)} is missing (or "${name}" in the --config file).`);
  }
  const checked = checkSettings(judgeSettingsSchema, judgeSettingNames, { ...judgeDefaults, ...given });
  if ("settings" in checked) return checked.settings;
  const lines = checked.issues.map(({ path: [name], message }) => `${flagOf(String(name))} ${String(given[String(name)])}: ${message}.`);
  throw new PolypacaError("USAGE", lines.join("\n"));
}
