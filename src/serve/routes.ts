/** What the server answers, by path. */
import { Admission } from "./admission.js";
import { type AnswerContext, answerRequest } from "./answer-request.js";
import { chatFormat } from "./chat-response.js";
import { completionFormat } from "./completion-response.js";
import type { Exchange, Route } from "./http-server.js";
import { parseChatRequest, parseCompletionRequest } from "./parse-request.js";
import { readJsonBody } from "./read-body.js";
import { chatPromptIds, completionPromptIds, findModel } from "./request-prompts.js";
import type { ResponseHead } from "./response-format.js";
import { sendJson } from "./send-json.js";
import type { ServedModel, ServedModels } from "./served-models.js";
import { metricsContentType, type ServerMetrics } from "./server-metrics.js";
import type { ServeEnvironment, ServeLimits } from "./settings.js";

export interface RouteContext {
  /** Of the open models; called only once they are. */
  readonly served: () => ServedModels;
  readonly isReady: () => boolean;
  readonly slots: number;
  readonly limits: ServeLimits;
  readonly metrics: ServerMetrics;
  readonly environment: ServeEnvironment;
}

export function createRoutes(context: RouteContext): Route[] {
  const { served, isReady, slots, limits, metrics, environment } = context;
  const admission = new Admission(slots + limits.queue);
  const startedAt = seconds(environment);
  const models = (): object[] => [...served().models.values()].map((model) => modelObject(model, served(), startedAt));
  const answering = ({ signal }: Exchange): AnswerContext => ({
    ...{ served: served(), admission, metrics, signal, stallTimeoutMs: limits.stallTimeoutMs },
    ...{ now: environment.now, random: environment.random },
  });
  const bodyOf = ({ request }: Exchange): Promise<unknown> => readJsonBody(request, limits.maxBodyBytes);
  return [
    { method: "GET", path: "/health", isOpen: true, handle: async ({ response }) => sendHealth(response, isReady()) },
    {
      ...{ method: "GET", path: "/metrics", isOpen: true },
      handle: async ({ response }) => {
        response.writeHead(200, { "content-type": metricsContentType }).end(metrics.text);
      },
    },
    { method: "GET", path: "/v1/models", handle: async ({ response }) => sendJson(response, { object: "list", data: models() }) },
    {
      ...{ method: "GET", path: "/v1/models/", isPrefix: true },
      handle: async ({ response, rest }) => sendJson(response, modelObject(findModel(served().models, rest), served(), startedAt)),
    },
    {
      ...{ method: "POST", path: "/v1/chat/completions", isTimed: true },
      handle: async (exchange) => answerChat(await bodyOf(exchange), exchange, answering(exchange), seconds(environment)),
    },
    {
      ...{ method: "POST", path: "/v1/completions", isTimed: true },
      handle: async (exchange) => answerCompletion(await bodyOf(exchange), exchange, answering(exchange), seconds(environment)),
    },
  ];
}

function seconds({ date }: ServeEnvironment): number {
  return Math.floor(date().getTime() / 1000);
}

function sendHealth(response: Exchange["response"], isReady: boolean): void {
  if (isReady) sendJson(response, { status: "ready" });
  else sendJson(response, { status: "not ready" }, 503, { "retry-after": "1" });
}

function modelObject({ id, parent }: ServedModel, { engine }: ServedModels, created: number): object {
  return { id, object: "model", created, owned_by: "polypaca", parent, max_model_len: engine.maxLength };
}

async function answerChat(body: unknown, { response, id }: Exchange, context: AnswerContext, created: number): Promise<void> {
  const { served } = context;
  const request = parseChatRequest(body);
  const model = findModel(served.models, request.model);
  const head: ResponseHead = { id: `chatcmpl-${id}`, created, model: model.id, system_fingerprint: model.fingerprint };
  const format = chatFormat(head, request.topLogprobs !== null, served.tokenizer);
  const prompts = [chatPromptIds(request, model, served)];
  await answerRequest({ request, model, prompts, promptParam: "messages", format, isChat: true }, context, response);
}

async function answerCompletion(body: unknown, { response, id }: Exchange, context: AnswerContext, created: number): Promise<void> {
  const { served } = context;
  const request = parseCompletionRequest(body);
  const model = findModel(served.models, request.model);
  const head: ResponseHead = { id: `cmpl-${id}`, created, model: model.id, system_fingerprint: model.fingerprint };
  const prompts = completionPromptIds(request, served);
  const echoOf = (index: number): string => {
    const prompt = request.isEchoed ? request.prompts[Math.floor(index / request.choices)]! : "";
    return typeof prompt === "string" ? prompt : served.tokenizer.decode(prompt, { skipSpecial: false, continuation: true });
  };
  const format = completionFormat(head, { hasLogprobs: request.topLogprobs !== null, echoOf }, served.tokenizer);
  await answerRequest({ request, model, prompts, promptParam: "prompt", format, isChat: false }, context, response);
}
