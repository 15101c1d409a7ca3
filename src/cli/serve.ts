import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { PolypacaError } from "../errors.js";
import type { ServeEnvironment, ServeSettings } from "../serve/settings.js";
import { choiceFlag, deviceNames, note, numberFlag } from "./output.js";

export function registerServe(program: Command): void {
  const atLeast = (flag: string, min: number) => numberFlag(flag, { integer: true, min });
  const seconds = (flag: string) => numberFlag(flag, { min: 0.001, max: 86_400 });
  program
    .command("serve")
    .summary("an OpenAI-compatible server over a model and its adapters")
    .description(
      "Answers OpenAI's chat completions and completions over HTTP; requests choose the model or an adapter by name, and are decoded together. Ctrl-C stops it when the running requests are done, a second one at once.",
    )
    .requiredOption("--model <DIR>", "model, a Hugging Face folder")
    .option("--adapter <NAME=DIR...>", "PEFT adapters for it, by the name that requests give as their model")
    .option("--name <NAME>", "name of the model alone in requests (default: the run folder's, or its own)")
    .option("--host <ADDRESS>", "address to listen on", "127.0.0.1")
    .option("--port <N>", "0: any that is free", numberFlag("--port", { integer: true, min: 0, max: 65_535 }), 8000)
    .option("--api-key-env <NAME>", "environment variable with the key that clients must send (default: no key)")
    .option("--slots <N>", "answers decoded together; the others wait", atLeast("--slots", 1), 8)
    .option(
      "--max-length <N>",
      "longest prompt and answer together, in tokens (default: 2048, or what the model has)",
      atLeast("--max-length", 2),
    )
    .option("--template <FILE>", "prompt template, or a chat template *.jinja (default: each model's own)")
    .option("--queue <N>", "answers that may wait; more are refused (429)", atLeast("--queue", 0), 256)
    .option("--max-body-bytes <N>", "longest request", atLeast("--max-body-bytes", 1), 2 ** 20)
    .option("--request-timeout <SECONDS>", "longest time of a request, waiting included", seconds("--request-timeout"), 600)
    .option("--headers-timeout <SECONDS>", "longest time for a request's headers to arrive", seconds("--headers-timeout"), 30)
    .option("--stall-timeout <SECONDS>", "a reader of a stream that takes nothing for so long is dropped", seconds("--stall-timeout"), 30)
    .option(
      "--shutdown-timeout <SECONDS>",
      "how long running requests may go on when the server is stopped",
      seconds("--shutdown-timeout"),
      30,
    )
    .option("--dtype <TYPE>", "fp32 or bf16 (default: bf16 where the hardware has it)", choiceFlag("--dtype", ["fp32", "bf16"]))
    .option("--device <NAME>", deviceNames, "auto")
    .option("--json", "print the address and the models as JSON when the server is ready")
    .action(async (flags: ServeFlags) => {
      const { parseNamedAdapter } = await import("../serve/served-models.js");
      await runServer(settingsOf(flags, parseNamedAdapter), flags.json === true);
    });
}

interface ServeFlags {
  readonly model: string;
  readonly adapter?: readonly string[];
  readonly name?: string;
  readonly host: string;
  readonly port: number;
  readonly apiKeyEnv?: string;
  readonly slots: number;
  readonly maxLength?: number;
  readonly template?: string;
  readonly queue: number;
  readonly maxBodyBytes: number;
  readonly requestTimeout: number;
  readonly headersTimeout: number;
  readonly stallTimeout: number;
  readonly shutdownTimeout: number;
  readonly dtype?: "fp32" | "bf16";
  readonly device: string;
  readonly json?: true;
}

/** Of a whole request with its body; a slow upload of the largest body takes less. */
const bodyTimeoutMs = 60_000;

function settingsOf(flags: ServeFlags, parseAdapter: (text: string) => ServeSettings["adapters"][number]): ServeSettings {
  const { model, host, port, slots, queue, maxBodyBytes, device } = flags;
  const headersTimeoutMs = 1000 * flags.headersTimeout;
  return {
    ...{ model, host, port, slots, device, adapters: (flags.adapter ?? []).map(parseAdapter) },
    ...{ name: flags.name ?? null, template: flags.template ?? null, maxLength: flags.maxLength ?? null, dtype: flags.dtype ?? null },
    apiKey: flags.apiKeyEnv === undefined ? null : keyFrom(flags.apiKeyEnv),
    limits: {
      ...{ maxBodyBytes, queue, requestTimeoutMs: 1000 * flags.requestTimeout, stallTimeoutMs: 1000 * flags.stallTimeout },
      ...{ headersTimeoutMs, bodyTimeoutMs: Math.max(bodyTimeoutMs, headersTimeoutMs) },
    },
    shutdownTimeoutMs: 1000 * flags.shutdownTimeout,
  };
}

function keyFrom(variable: string): string {
  const key = process.env[variable]?.trim() ?? "";
  if (key !== "") return key;
  throw new PolypacaError(
    "USAGE",
    `--api-key-env ${variable}: the environment variable is not set. Set it to the key that clients are to send.`,
  );
}

/** Until a signal: the first lets running requests finish, the second ends the process. */
async function runServer(settings: ServeSettings, isJson: boolean): Promise<void> {
  const { startServer } = await import("../serve/serve.js");
  const stopped = nextSignal();
  const starting = startServer(settings, environment());
  const early = await Promise.race([starting.then(() => null), stopped]);
  if (early !== null) process.exit(0); // while loading: nothing runs yet
  const server = await starting;
  const { url, models, maxLength, stop } = server;
  if (isJson) process.stdout.write(`${JSON.stringify({ url, models, slots: settings.slots, maxLength })}\n`);
  else process.stdout.write(`ready: ${url}/v1, models ${models.join(", ")}; ${settings.slots} at a time, ${maxLength} tokens each\n`);
  const name = await stopped;
  note(`${name}: finishing the running requests; once more to stop at once`);
  await stop();
}

const signalNumbers = { SIGINT: 2, SIGTERM: 15 } as const;

/** The second one does not come back. */
function nextSignal(): Promise<keyof typeof signalNumbers> {
  return new Promise((resolve) => {
    let count = 0;
    for (const name of Object.keys(signalNumbers) as (keyof typeof signalNumbers)[]) {
      process.on(name, () => {
        if (count++ > 0) process.exit(128 + signalNumbers[name]);
        resolve(name);
      });
    }
  });
}

function environment(): ServeEnvironment {
  return {
    ...{ note, now: () => performance.now(), date: () => new Date(), random: Math.random },
    newId: () => randomUUID().replaceAll("-", ""),
    residentBytes: () => process.memoryUsage.rss(),
  };
}
