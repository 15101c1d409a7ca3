/** The worker thread of read-languages.ts: reads one language's file and sends back what it found. */
import { parentPort, workerData } from "node:worker_threads";
import { type ErrorCode, PolypacaError } from "../errors.js";
import { type LanguageData, type ReadJob, readLanguage } from "./language-data.js";

export type ReadMessage =
  | { readonly kind: "progress"; readonly done: number; readonly total: number }
  | { readonly kind: "data"; readonly data: LanguageData }
  | { readonly kind: "error"; readonly code: ErrorCode; readonly message: string };

const port = parentPort!;
const send = (message: ReadMessage, move: readonly ArrayBuffer[] = []): void => port.postMessage(message, move);

try {
  const data = await readLanguage(workerData as ReadJob, { onProgress: (done, total) => send({ kind: "progress", done, total }) });
  const { starts, ends, lines, hasInput } = data.index;
  const arrays = [starts, ends, lines, hasInput, ...(data.counts === null ? [] : Object.values(data.counts as object))] as Int32Array[];
  send(
    { kind: "data", data },
    arrays.map(({ buffer }) => buffer as ArrayBuffer),
  );
} catch (cause) {
  const { code, message } = PolypacaError.from(cause, { during: "reading the data" });
  send({ kind: "error", code, message });
}
