/** Bodies of requests: JSON in UTF-8, of limited size. */
import type { IncomingMessage } from "node:http";
import { ApiError, invalidRequest } from "./api-error.js";

/** A client that sends more than is taken is listened to a little longer, so that it gets to read why. */
const drainedFactor = 16;

/** @throws ApiError 400, 413, 415 */
export async function readJsonBody(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const type = request.headers["content-type"] ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    const found = type === "" ? "there is none" : `this is "${type}"`;
    throw new ApiError(415, `The body has to be JSON, with content-type application/json; ${found}.`, { code: "unsupported_media_type" });
  }
  const encoding = request.headers["content-encoding"] ?? "identity";
  if (encoding !== "identity") {
    throw new ApiError(415, `content-encoding ${encoding} is not supported; send the body as it is.`, { code: "unsupported_media_type" });
  }
  const bytes = await readBytes(request, maxBytes);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalidRequest("The body is not valid UTF-8.", null, "invalid_json");
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw invalidRequest(`The body is not valid JSON: ${(cause as Error).message}`, null, "invalid_json");
  }
}

async function readBytes(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= maxBytes) chunks.push(chunk);
    else chunks.length = 0;
    if (size > drainedFactor * maxBytes) break;
  }
  if (size <= maxBytes) return Buffer.concat(chunks);
  const message = `The body has more than ${maxBytes} bytes. Shorten it, or start the server with a larger --max-body-bytes.`;
  throw new ApiError(413, message, { code: "body_too_large", headers: { connection: "close" } });
}
