/** One JSON request over fetch, with faults in the terms of retry.ts. */
import { BadAnswer, ConnectionFault, HttpFault, retryAfterMs } from "./retry.js";

export interface JsonRequest {
  readonly url: string;
  readonly body: object;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** @throws ConnectionFault, HttpFault, or BadAnswer for an answer that is not JSON; an AbortError when aborted */
export async function postJson({ url, body, headers, signal, now }: JsonRequest): Promise<unknown> {
  const options = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers }, signal };
  const answer = await readAnswer(url, options, signal);
  if (!answer.isOk) {
    const wait = retryAfterMs((name) => answer.headers.get(name), now());
    throw new HttpFault(answer.status, errorText(answer.text), { retryAfterMs: wait });
  }
  try {
    return JSON.parse(answer.text) as unknown;
  } catch (cause) {
    throw new BadAnswer(`the response is not valid JSON (${cause instanceof Error ? cause.message : String(cause)})`);
  }
}

async function readAnswer(url: string, options: RequestInit, signal: AbortSignal) {
  try {
    const response = await fetch(url, options);
    return { isOk: response.ok, status: response.status, headers: response.headers, text: await response.text() };
  } catch (cause) {
    if (signal.aborted || !(cause instanceof Error)) throw cause;
    const why = cause.cause instanceof Error ? cause.cause.message : cause.message;
    throw new ConnectionFault(`${url}: ${why}`, { cause });
  }
}

/** What a service says in `error`, else the beginning of its answer. */
function errorText(text: string): string {
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error === "string") return error;
  } catch {
    // plain text or HTML
  }
  return text.trim().slice(0, 200);
}
