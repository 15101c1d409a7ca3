/** The Batch API on loopback: files, batches, their list, with answers when `finish` is called. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { type Task, translated } from "./chat-server.js";

interface Batch {
  readonly id: string;
  readonly input_file_id: string;
  readonly metadata: Readonly<Record<string, string>>;
  status: string;
  output_file_id?: string;
  error_file_id?: string;
}

interface BatchRow {
  readonly custom_id: string;
  readonly body: { readonly messages: Parameters<Task["read"]>[0] };
}

export interface BatchServer {
  readonly url: string;
  readonly batches: readonly Batch[];
  /** Rows of a batch's input. */
  rows(batch: Batch): readonly BatchRow[];
  /** Ends all batches under way: as `status`, with an answer to every row that `answers`. */
  finish(status?: string, answers?: (text: string) => boolean): void;
  /** Waits until so many batches have been submitted. */
  submitted(count: number): Promise<void>;
}

export function textOf({ body }: BatchRow): string {
  return (JSON.parse(body.messages[1]!.content) as { readonly text: string }).text;
}

/** Of the task that `startBatchServer` has where no other is given. */
const translation: Task = {
  read: (messages) => ({ text: (JSON.parse(messages[1]!.content) as { readonly text: string }).text, target: "x" }),
  answer: (text, target) => JSON.stringify({ translation: translated(text, target) }),
};

/** @param options `pageSize`: batches per page of the list */
export async function startBatchServer({ pageSize = 1, task = translation } = {}): Promise<BatchServer> {
  const textIn = (row: BatchRow): string => task.read(row.body.messages).text;
  const files = new Map<string, string>();
  const batches: Batch[] = [];
  const addFile = (content: string): string => {
    files.set(`file-${files.size}`, content);
    return `file-${files.size - 1}`;
  };
  const reply = (method: string, url: URL, body: string): object | string | null => {
    const [, , kind, id, part] = url.pathname.split("/");
    if (kind === "files" && method === "POST") return { id: addFile(filePart(body)), object: "file" };
    if (kind === "files" && part === "content") return files.get(id!) ?? null;
    if (kind === "batches" && method === "POST") {
      batches.unshift({
        id: `batch-${batches.length}`,
        status: "in_progress",
        ...(JSON.parse(body) as Pick<Batch, "input_file_id" | "metadata">),
      });
      return batches[0]!;
    }
    if (kind === "batches" && id !== undefined) return batches.find((batch) => batch.id === id) ?? null;
    const from = 1 + batches.findIndex((batch) => batch.id === url.searchParams.get("after"));
    return { object: "list", data: batches.slice(from, from + pageSize), has_more: from + pageSize < batches.length };
  };
  const server = createServer((incoming, outgoing) => {
    let body = "";
    incoming.setEncoding("utf8").on("data", (chunk: string) => {
      body += chunk;
    });
    incoming.on("end", () => {
      const answer = reply(incoming.method!, new URL(incoming.url!, "http://x"), body);
      if (answer === null) outgoing.writeHead(404).end("{}");
      else if (typeof answer === "string") outgoing.writeHead(200, { "content-type": "application/octet-stream" }).end(answer);
      else outgoing.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const rows = ({ input_file_id }: Batch): BatchRow[] => jsonLines(files.get(input_file_id)!) as BatchRow[];
  return {
    ...{ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, batches, rows },
    finish: (status = "completed", answers = () => true) => {
      for (const batch of batches.filter((one) => one.status === "in_progress")) {
        const [good, bad] = [rows(batch).filter((row) => answers(textIn(row))), rows(batch).filter((row) => !answers(textIn(row)))];
        batch.status = status;
        // In another order than asked, which the API allows.
        batch.output_file_id = addFile(
          good
            .reverse()
            .map((row) => answerLine(row, task))
            .join(""),
        );
        const errors = bad.map(({ custom_id }) => `${JSON.stringify({ custom_id, response: null, error: { code: "batch_expired" } })}\n`);
        if (errors.length > 0) batch.error_file_id = addFile(errors.join(""));
      }
    },
    submitted: async (count) => {
      while (batches.length < count) await new Promise((resolve) => setTimeout(resolve, 1));
    },
  };
}

function answerLine(row: BatchRow, task: Task): string {
  const { text, target } = task.read(row.body.messages);
  const message = { role: "assistant", content: task.answer(text, target) };
  const body = { choices: [{ index: 0, message, finish_reason: "stop" }], usage: { prompt_tokens: 3, completion_tokens: 2 } };
  return `${JSON.stringify({ custom_id: row.custom_id, response: { status_code: 200, body }, error: null })}\n`;
}

/** The file's content out of multipart form data. */
function filePart(form: string): string {
  const boundary = form.slice(0, form.indexOf("\r\n"));
  const part = form.split(boundary).find((candidate) => candidate.includes("filename="))!;
  return part.slice(part.indexOf("\r\n\r\n") + 4, -2);
}

function jsonLines(text: string): unknown[] {
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as unknown);
}
