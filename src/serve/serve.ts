/** `serve`: an OpenAI-compatible server over one model and its adapters, from the first to the last request. */
import { HttpServer } from "./http-server.js";
import { isLoopback } from "./loopback.js";
import { createRoutes } from "./routes.js";
import { openServedModels, type ServedModels } from "./served-models.js";
import { ServerMetrics } from "./server-metrics.js";
import type { ServeEnvironment, ServeSettings } from "./settings.js";

export interface RunningServer {
  /** Where it listens, "/v1" not included. */
  readonly url: string;
  /** Names that requests may give. */
  readonly models: readonly string[];
  readonly maxLength: number;
  /** Takes no more requests; returns when the running ones are done, or `shutdownTimeoutMs` is over and they were ended. */
  stop(): Promise<void>;
}

/**
 * Listens at once, answers 503 while the model is being loaded, and is ready when this returns.
 *
 * @param signal stops it while it is loading
 * @throws PolypacaError `USAGE` where it cannot listen, and what opening the model throws
 */
export async function startServer(
  settings: ServeSettings,
  environment: ServeEnvironment,
  open: (settings: ServeSettings, environment: ServeEnvironment) => Promise<ServedModels> = openServedModels,
): Promise<RunningServer> {
  const { host, apiKey, slots, limits } = settings;
  let served: ServedModels | null = null;
  let isStopping = false;
  const metrics = new ServerMetrics(() => served?.engine ?? null, environment.residentBytes);
  const routes = createRoutes({
    ...{ isReady: () => served !== null && !isStopping, slots, limits, metrics, environment },
    served: () => served!, // routes that need it are not reached before
  });
  const unreadyReason = (): "loading" | "stopping" | null => (isStopping ? "stopping" : served === null ? "loading" : null);
  const http = new HttpServer({ routes, settings, metrics, environment, unreadyReason });
  const url = await http.listen();
  if (apiKey === null && !isLoopback(host)) {
    environment.note(`warning: ${url} is open to the network and asks for no key. Set one with --api-key-env, or leave --host out.`);
  }
  environment.note(`${url}: loading ${settings.model}`);
  try {
    served = await open(settings, environment);
  } catch (cause) {
    await http.close(0);
    throw cause;
  }
  const opened = served;
  return {
    ...{ url, models: [...opened.models.keys()], maxLength: opened.engine.maxLength },
    stop: async () => {
      isStopping = true;
      await http.close(settings.shutdownTimeoutMs);
      await opened.close();
    },
  };
}
