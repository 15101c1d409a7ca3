/** Addresses that only this machine reaches. */
import { isIPv4, isIPv6 } from "node:net";

/** Whether a name or address to listen on is this machine's own. */
export function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith("127.");
  return isIPv6(host) ? host === "::1" || /^::ffff:127\./i.test(host) : host.toLowerCase() === "localhost";
}

/**
 * Whether a Host header names this machine. A web page whose name an attacker points at 127.0.0.1 (DNS rebinding) still sends its own.
 */
export function isLoopbackHostHeader(header: string | undefined): boolean {
  const name = /^(?:\[([^\]]+)\]|([^:]*))(?::\d+)?$/.exec(header ?? "");
  return name !== null && isLoopback(name[1] ?? name[2] ?? "");
}
