/**
 * What went wrong, by kind. `cli` maps the first group to exit code 2 (wrong usage or bad input), the rest to 1.
 */
export const usageErrorCodes = [
  "USAGE", // a flag or argument is wrong
  "BAD_CONFIG", // a YAML or JSON settings file is wrong
  "BAD_RECORD", // a data record is malformed
  "BAD_DATA", // data that cannot be used as a whole: empty, no targets, unknown fields
  "BAD_TEMPLATE",
  "BAD_TOKENIZER",
  "BAD_CHECKPOINT", // a weights or adapter file is truncated, corrupt or unsafe
  "CHECKPOINT_MISMATCH", // weights and config.json disagree
  "UNSUPPORTED", // understood, but not something polypaca does
  "NOT_FOUND",
  "INVALID_ARGUMENT",
  "SHAPE_MISMATCH",
] as const;

export const failureErrorCodes = [
  "OUT_OF_MEMORY",
  "DISK_FULL",
  "IO",
  "RUN_LOCKED", // another process works in the folder
  "INCOMPLETE", // a service did not give every answer; those it gave are kept
  "NOT_FINITE", // a loss or gradient became NaN or infinite
  "CANCELLED",
  "DISPOSED",
  "ADDON", // the native addon is missing or does not load
  "VERIFY_FAILED",
  "INTERNAL",
] as const;

export type ErrorCode = (typeof usageErrorCodes)[number] | (typeof failureErrorCodes)[number];

const allCodes: ReadonlySet<string> = new Set([...usageErrorCodes, ...failureErrorCodes]);

/**
 * The one error class of polypaca. The message names the thing and its value, where it is (file, line, tensor, flag),
 * what was expected, and what to do next; `code` is stable.
 */
export class PolypacaError extends Error {
  override readonly name = "PolypacaError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** Wraps anything thrown; a PolypacaError, and a native error that carries one of our codes, keep their code. */
  static from(cause: unknown, context?: { readonly during: string }): PolypacaError {
    if (cause instanceof PolypacaError) return cause;
    const message = cause instanceof Error ? cause.message : String(cause);
    const code = codeOf(cause);
    return new PolypacaError(code, context && code === "INTERNAL" ? `${context.during}: ${message}` : message, { cause });
  }
}

function codeOf(cause: unknown): ErrorCode {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  if (allCodes.has(code)) return code as ErrorCode;
  if (code === "ENOSPC" || code === "EDQUOT") return "DISK_FULL";
  if (code === "ENOENT") return "NOT_FOUND";
  if (/^E[A-Z0-9]+$/.test(code)) return "IO";
  return "INTERNAL";
}

/** True for errors that the user's input caused. */
export function isUsageError(error: PolypacaError): boolean {
  return (usageErrorCodes as readonly string[]).includes(error.code);
}
