/** Errors in OpenAI's form, and the HTTP statuses they come with. */

export interface ApiErrorOptions {
  /** OpenAI's name for the kind of error; default by status. */
  readonly type?: string;
  /** Stable name of the error; null: none. */
  readonly code?: string | null;
  /** The request's field that is wrong: "messages[0].role". */
  readonly param?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly type: string;
  readonly code: string | null;
  readonly param: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, { type, code = null, param = null, headers = {} }: ApiErrorOptions = {}) {
    super(message);
    this.status = status;
    this.type = type ?? (status >= 500 ? "server_error" : "invalid_request_error");
    this.code = code;
    this.param = param;
    this.headers = headers;
  }

  /** As the body of a response, and as the last event of a stream that breaks off. */
  get body(): ApiErrorBody {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

/** A request that is wrong in itself. */
export function invalidRequest(message: string, param: string | null, code: string | null = null): ApiError {
  return new ApiError(400, message, { param, code });
}

/** The client asks again later: the server starts, stops or has enough to do. */
export function unavailable(message: string, retryAfterSeconds: number): ApiError {
  return new ApiError(503, message, { code: "unavailable", headers: { "retry-after": String(retryAfterSeconds) } });
}

/** Not asked again by clients that repeat requests on their own: it would take as long again. */
export function timedOut(seconds: number): ApiError {
  const message = `the answer took longer than ${seconds} s. Ask for fewer tokens (max_tokens), or start the server with a longer --request-timeout.`;
  return new ApiError(504, message, { code: "timeout", headers: { "x-should-retry": "false" } });
}
