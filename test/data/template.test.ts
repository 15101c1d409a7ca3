import { describe, expect, it } from "vitest";
import { alpacaTemplates, extractResponse, readTemplate, renderPrompt } from "../../src/data/index.js";
import { dataFile } from "./data-folder.js";

describe("the Alpaca templates", () => {
  it("are those of alpaca-lora, which end with a line break", () => {
    expect(renderPrompt(alpacaTemplates.lora, { instruction: "Add.", input: "1 2" })).toBe(
      "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n",
    );
    expect(renderPrompt(alpacaTemplates.lora, { instruction: "Add.", input: "" })).toBe(
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n",
    );
  });

  it("are those of Stanford Alpaca for full-parameter training, which do not", () => {
    for (const parts of [{ instruction: "Add.", input: "1 2" }, { instruction: "Add." }]) {
      expect(`${renderPrompt(alpacaTemplates.fft, parts)}\n`).toBe(renderPrompt(alpacaTemplates.lora, parts));
    }
  });

  it("fill texts in as they are, whatever they contain", () => {
    const instruction = "{input} $& $1 {{x}} {instruction}";
    expect(renderPrompt(alpacaTemplates.lora, { instruction, input: "$`" })).toContain(
      `### Instruction:\n${instruction}\n\n### Input:\n$\`\n`,
    );
  });
});

describe("extractResponse", () => {
  it("takes what follows the first split, up to the next heading", () => {
    const prompt = renderPrompt(alpacaTemplates.lora, { instruction: "Say hi." });
    expect(extractResponse(`${prompt}Hi.\n\nBye. ### not a heading`, alpacaTemplates.lora)).toBe("Hi.\n\nBye. ### not a heading");
    expect(extractResponse(`${prompt}Hi.\n### Instruction:\nMore`, alpacaTemplates.lora)).toBe("Hi.");
    expect(extractResponse("no prompt in front\n### x", alpacaTemplates.lora)).toBe("no prompt in front");
    expect(extractResponse(prompt, alpacaTemplates.lora)).toBe("");
  });
});

describe("readTemplate", () => {
  const stored = {
    description: "d",
    prompt_input: "{instruction}|{input}=>",
    prompt_no_input: "{{json}} {instruction}=>",
    response_split: "=>",
  };

  it("reads the study's JSON form, with doubled braces as str.format has them", async () => {
    const template = await readTemplate(await dataFile("template.json", stored));
    expect(renderPrompt(template, { instruction: "a", input: "b" })).toBe("a|b=>");
    expect(renderPrompt(template, { instruction: "a" })).toBe("{json} a=>");
    expect(extractResponse("{json} a=> c", template)).toBe("c");
  });

  it.each([
    ["no JSON", "{", /not valid JSON/],
    ["a missing field", { ...stored, prompt_input: undefined }, /"prompt_input" is missing/],
    ["an empty field", { ...stored, response_split: "" }, /"response_split" is ""/],
    ["an unknown placeholder", { ...stored, prompt_input: "{instruction} {input} {question}=>" }, /placeholder \{question\}/],
    ["a placeholder that is missing", { ...stored, prompt_input: "{instruction}=>" }, /lacks the placeholder \{input\}/],
    [
      "an input where there is none",
      { ...stored, prompt_no_input: "{instruction} {input}=>" },
      /"prompt_no_input" has the placeholder \{input\}/,
    ],
    ["a prompt without the split", { ...stored, prompt_no_input: "{instruction}" }, /does not contain "response_split"/],
  ])("refuses %s", async (_, content, message) => {
    await expect(readTemplate(await dataFile("template.json", content))).rejects.toMatchObject({
      code: "BAD_TEMPLATE",
      message: expect.stringMatching(message),
    });
  });

  it("refuses a file that is not there", async () => {
    await expect(readTemplate("/nowhere/template.json")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});
