/** `polypaca serve` as a process of its own, on a free port. */
import OpenAI from "openai";
import { onTestFinished } from "vitest";
import { type RunningCli, startCli } from "../cli/run-cli.js";

export interface ServeProcess extends RunningCli {
  readonly url: string;
  readonly models: readonly string[];
  /** The official client; it repeats nothing. */
  readonly client: OpenAI;
  metric(name: string): Promise<number>;
}

/** A second thread gains nothing on models this small, and waits for a core on a busy machine. */
export const oneThread = { OMP_NUM_THREADS: "1" };

/** Waits until it is ready. It is killed where the caller does not stop it. */
export async function launchServe(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<ServeProcess> {
  const running = startCli(["serve", "--port", "0", "--device", "cpu", "--dtype", "fp32", "--json", ...args], { ...oneThread, ...env });
  const line = await new Promise<string>((resolve, reject) => {
    let text = "";
    running.child.stdout!.on("data", (more: string) => {
      text += more;
      if (text.includes("\n")) resolve(text.slice(0, text.indexOf("\n")));
    });
    void running.ended.then(({ exitCode, stderr }) => reject(new Error(`serve ended with ${exitCode}: ${stderr}`)));
  });
  const { url, models } = JSON.parse(line) as { readonly url: string; readonly models: string[] };
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: Object.values(env)[0] ?? "none", maxRetries: 0 });
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)![1]);
  };
  return { ...running, url, models, client, metric };
}

/** As {@link launchServe}, until the test has finished. */
export async function startServe(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<ServeProcess> {
  const server = await launchServe(args, env);
  onTestFinished(() => void server.child.kill("SIGKILL"));
  return server;
}
