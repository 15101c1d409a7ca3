/** The server in this process, over a scripted engine; it listens until the test has finished. */
import { randomUUID } from "node:crypto";
import OpenAI from "openai";
import { onTestFinished } from "vitest";
import { type RunningServer, startServer } from "../../src/serve/serve.js";
import type { ServeLimits, ServeSettings } from "../../src/serve/settings.js";
import { type Script, type ScriptedEngine, scriptedEngine, scriptedModels } from "./scripted-engine.js";

export interface ScriptedServer extends RunningServer {
  readonly engine: ScriptedEngine;
  readonly notes: readonly string[];
  /** The official client; it repeats nothing. */
  readonly client: OpenAI;
}

export interface ServerOptions extends Partial<Omit<ServeSettings, "limits">> {
  readonly limits?: Partial<ServeLimits>;
  readonly maxLength?: number;
}

export function settingsOf({ limits = {}, ...settings }: ServerOptions = {}): ServeSettings {
  return {
    ...{ model: "base", adapters: [], name: null, template: null, host: "127.0.0.1", port: 0, apiKey: null, slots: 4, maxLength: null },
    ...{ device: "cpu", dtype: "fp32", shutdownTimeoutMs: 10_000 },
    ...settings,
    limits: {
      ...{ maxBodyBytes: 2 ** 20, queue: 64, requestTimeoutMs: 60_000, headersTimeoutMs: 10_000, bodyTimeoutMs: 60_000 },
      ...{ stallTimeoutMs: 30_000, ...limits },
    },
  };
}

export function environmentOf(notes: string[]) {
  return {
    ...{ note: (line: string) => void notes.push(line), now: () => performance.now(), date: () => new Date(1_700_000_000_000) },
    ...{ random: () => 0.5, newId: randomUUID, residentBytes: () => 12_345 },
  };
}

export async function startScripted(script: Script, options: ServerOptions = {}): Promise<ScriptedServer> {
  const settings = settingsOf(options);
  const engine = scriptedEngine(script, { slots: settings.slots, ...(settings.maxLength !== null && { maxLength: settings.maxLength }) });
  const notes: string[] = [];
  const server = await startServer({ ...settings, shutdownTimeoutMs: settings.shutdownTimeoutMs }, environmentOf(notes), async () =>
    scriptedModels(engine),
  );
  onTestFinished(async () => {
    engine.release();
    await server.stop();
  });
  return { ...server, engine, notes, client: clientOf(server.url, settings.apiKey ?? "none") };
}

export function clientOf(url: string, apiKey = "none"): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
}
