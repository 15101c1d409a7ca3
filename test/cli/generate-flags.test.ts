import { Command } from "commander";
import { expect, it } from "vitest";
import { registerGenerate } from "../../src/cli/generate.js";

it("--no-repeat-ngram-size is a number, not the denial of a switch", () => {
  const program = new Command();
  registerGenerate(program);
  const command = program.commands[0]!;
  let parsed: unknown;
  command.action((flags: unknown) => {
    parsed = flags;
  });
  const required = ["--model", "m", "--prompts", "a.jsonl", "b.jsonl", "--out", "o"];
  program.parse(["generate", ...required, "--no-repeat-ngram-size", "3"], { from: "user" });
  expect(parsed).toMatchObject({ noRepeatNgramSize: 3, prompts: ["a.jsonl", "b.jsonl"], batchSize: 16 });
  program.parse(["generate", ...required], { from: "user" });
  expect(parsed).not.toHaveProperty("repeatNgramSize");
});
