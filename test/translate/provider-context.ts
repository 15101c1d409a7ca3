import type { RequestContext } from "../../src/endpoint/request.js";
import type { SegmentAnswer, TranslationSession } from "../../src/translate/providers/provider.js";

export interface TestContext extends RequestContext {
  readonly notes: readonly string[];
  readonly controller: AbortController;
}

/** Notes are kept; `controller` stops and aborts at once. */
export function testContext(): TestContext {
  const notes: string[] = [];
  const controller = new AbortController();
  const note = (line: string): void => void notes.push(line);
  return { notes, controller, note, now: Date.now, random: () => 0, stop: controller.signal, abort: controller.signal };
}

export function ask(session: TranslationSession, text: string, idempotencyKey = `key of ${text}`): Promise<SegmentAnswer> {
  return session.translate({ text, idempotencyKey });
}
