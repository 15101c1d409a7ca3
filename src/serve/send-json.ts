import type { ServerResponse } from "node:http";

export function sendJson(response: ServerResponse, body: object, status = 200, headers: Readonly<Record<string, string>> = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text), ...headers }).end(text);
}
