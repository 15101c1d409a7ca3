/** Real programs: scripts for Node, and `tr` where there is one. */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { RequestFailure } from "../../src/endpoint/request.js";
import { type CommandSettings, commandProvider } from "../../src/translate/providers/command.js";
import { MisalignedAnswers, type TranslationSession } from "../../src/translate/providers/provider.js";
import { ask, type TestContext, testContext } from "./provider-context.js";

let base: string;

beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), "polypaca-command-"));
});

let scripts = 0;

/** A program that runs `onLine(line)`, a statement, for each line it reads. `log` names a file to append to. */
function lineProgram(onLine: string): string {
  const file = join(base, `program-${scripts++}.mjs`);
  writeFileSync(
    file,
    `import { appendFileSync, existsSync, writeFileSync } from "node:fs";
let rest = "", count = 0;
const say = (line) => process.stdout.write(line + "\\n");
process.stdin.setEncoding("utf8").on("data", (text) => {
  const lines = (rest + text).split("\\n");
  rest = lines.pop();
  for (const line of lines) { count++; ${onLine} }
});`,
  );
  return `"${process.execPath}" "${file}" {source} {target}`;
}

async function open(
  command: string,
  more: Partial<CommandSettings> = {},
  context: TestContext = testContext(),
): Promise<TranslationSession> {
  const settings = { command, model: null, maxCharacters: 2_000, joinSentences: false, concurrency: 64, timeoutMs: 10_000 };
  const provider = commandProvider({ ...settings, flushAfterMs: 5_000, ...more });
  return await provider.open({ source: "en", target: "fi" }, context);
}

async function askAll(session: TranslationSession, texts: readonly string[]): Promise<string[]> {
  return (await Promise.all(texts.map((text) => ask(session, text)))).map(({ text }) => text);
}

const upper = "say(line.toUpperCase() + ' ' + process.argv.slice(2));";

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `line ${i}`);
}

describe("the command provider", () => {
  it("keeps one program running for all lines, tells it the languages, and pairs answers by order", async () => {
    const starts = join(base, "starts");
    const session = await open(lineProgram(`if (count === 1) appendFileSync(${JSON.stringify(starts)}, "x"); ${upper}`));
    const texts = [...numbered(500), "Ünïcödé 汉字 🦙 \u2028 and \r within"];
    expect(await askAll(session, texts)).toEqual(texts.map((text) => `${text.toUpperCase()} en,fi`));
    expect(await askAll(session, ["later"])).toEqual(["LATER en,fi"]);
    await session.end();
    expect(readFileSync(starts, "utf8")).toBe("x");
  });

  it("starts a program that dies every 300 lines again, and loses and repeats no answer", async () => {
    const seen = join(base, "seen");
    const context = testContext();
    // It ends when its answers are out: where nobody reads for a while, Node keeps them, and process.exit throws them away.
    const end = `if (count === 301) process.stdout.write("", () => process.exit(3)); if (count > 300) continue;`;
    const program = lineProgram(`${end} appendFileSync(${JSON.stringify(seen)}, line + "\\n"); ${upper}`);
    const session = await open(program, {}, context);
    const texts = numbered(1_000);
    expect(await askAll(session, texts)).toEqual(texts.map((text) => `${text.toUpperCase()} en,fi`));
    await session.end();
    expect(readFileSync(seen, "utf8").trimEnd().split("\n")).toEqual(texts);
    expect(context.notes).toHaveLength(3);
    expect(context.notes[0]).toMatch(/ended \(exit code 3\) after 300 answers; started again/);
  });

  it("gives up a program that dies three times in turn on the same line, and says on which and what it wrote", async () => {
    const session = await open(lineProgram(`if (line === "line 7") { console.error("out of vocabulary"); process.exit(9); } ${upper}`));
    const answers = await Promise.allSettled(numbered(20).map((text) => ask(session, text)));
    expect(answers.map(({ status }) => status)).toEqual([...Array(7).fill("fulfilled"), ...Array(13).fill("rejected")]);
    const { reason } = answers[7] as PromiseRejectedResult;
    expect(reason).toMatchObject({
      code: "IO",
      message: expect.stringMatching(/3 times in turn.*exit code 9.*"line 7".*out of vocabulary/s),
    });
    await expect(ask(session, "later")).rejects.toBe(reason);
    await expect(session.end()).rejects.toBe(reason);
  });

  it("says that a program does not exist", async () => {
    const session = await open("no-such-translator --fast");
    await expect(ask(session, "text")).rejects.toThrow(/no-such-translator --fast.*exit code 127.*not found/s);
  });

  it("is not fooled by a crash after which the same line goes well", async () => {
    const flag = join(base, "crashed");
    const crashOnce = `if (!existsSync(${JSON.stringify(flag)})) { writeFileSync(${JSON.stringify(flag)}, ""); process.exit(1); }`;
    const session = await open(lineProgram(`${crashOnce} ${upper}`));
    expect(await askAll(session, ["a", "b"])).toEqual(["A en,fi", "B en,fi"]);
    await session.end();
  });

  it("works with a program that writes only when its input ends, as tr does", async () => {
    const context = testContext();
    const session = await open("tr a-z A-Z", { flushAfterMs: 200 }, context);
    expect(await askAll(session, ["one", "two"])).toEqual(["ONE", "TWO"]);
    expect(await askAll(session, ["three"])).toEqual(["THREE"]); // from a second tr
    expect(context.notes[0]).toMatch(/silent for 0\.2 s with 2 lines in flight; its input is ended/);
    await session.end();
  });

  it("kills a program that hangs, and gives it up when it hangs on the same line again", async () => {
    const session = await open(lineProgram("if (line === 'hang') for (;;); say(line);"), { timeoutMs: 300, flushAfterMs: 100 });
    await expect(ask(session, "hang")).rejects.toThrow(/3 times in turn, the last time with SIGKILL, .*"hang"/);
  });

  it("finds out by the end that a program writes more than a line for a line, and has the answers thrown away", async () => {
    const session = await open(lineProgram("if (count === 1) say('Translator ready'); say(line);"));
    await askAll(session, ["a", "b"]).catch(() => {});
    const fault = await session.end().catch((cause: unknown) => cause);
    expect(fault).toBeInstanceOf(MisalignedAnswers);
    expect((fault as Error).message).toMatch(/wrote a line that answers none: "b".*one line for each line/);
  });

  it("fails a segment with a line break, which would shift all that follow", async () => {
    const session = await open(lineProgram(upper));
    await expect(ask(session, "a\nb")).rejects.toBeInstanceOf(RequestFailure);
    session.abandon();
  });

  it("kills the program and what it started when aborted", async () => {
    const context = testContext();
    const pidFile = join(base, "pid");
    const program = lineProgram(`writeFileSync(${JSON.stringify(pidFile)}, String(process.pid));`);
    const session = await open(program, {}, context);
    const waiting = ask(session, "text");
    let pid = "";
    while (pid === "") {
      await new Promise((resolve) => setTimeout(resolve, 5));
      try {
        pid = readFileSync(pidFile, "utf8");
      } catch {
        // not yet
      }
    }
    context.controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "CANCELLED" });
    for (;;) {
      try {
        if (/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"))) break;
      } catch {
        break; // gone
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });

  it("is named in the journal by the command, or by --model", () => {
    const settings = { command: "marian", maxCharacters: 9, joinSentences: false, concurrency: 1, timeoutMs: 1, flushAfterMs: 1 };
    expect(commandProvider({ ...settings, model: null })).toMatchObject({ name: "command", model: "marian" });
    expect(commandProvider({ ...settings, model: "opus-2020" })).toMatchObject({ name: "command", model: "opus-2020" });
  });
});
