import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readAlpaca } from "../../src/data/index.js";
import { findCodeLines } from "../../src/translate/code-lines.js";
import { sampleDir } from "../data/data-folder.js";

const codeOf = (text: string): readonly string[] => findCodeLines(text).map(({ start, end }) => text.slice(start, end));

describe("findCodeLines", () => {
  it.each([
    [
      "Python",
      "import numpy as np\n\ndef mean(values):\n    # of all\n    total = 0\n    for v in values:\n        total += v\n    return total / len(values)",
    ],
    ["Java", 'public class Main {\n  public static void main(String[] args) {\n    System.out.println("Hello World");\n  }\n}'],
    ["C++", '#include <iostream>\nusing namespace std;\nint main() {\n  cout << "Hello" << endl;\n  return 0;\n}'],
    ["JavaScript", "const add = (a, b) => a + b;\nconsole.log(add(1, 2));"],
    ["SQL", "SELECT name, age\nFROM people\nWHERE age > 30;"],
    ["CSS", ".box {\n  margin: 0 auto;\n  color: red;\n}"],
    ["JSON", '{\n  "name": "Anna Smith",\n  "age": 30\n}'],
    ["one call", "print('Hello, World!')"],
  ])("finds %s whole, between prose", (_, code) => {
    expect(codeOf(`Here is what you asked for:\n\n${code}\n\nIt does what you want.`)).toEqual([code]);
    expect(codeOf(code)).toEqual([code]);
  });

  it.each([
    "For example:",
    "Drifting gently to the ground;",
    "let me know if you need more (or less).",
    "import goods from China",
    "If you like (as I do) cats, try this:",
    "for people in need:",
    "class action lawsuits are common",
    "Total = $12 + $14 = $26",
    "Area = length times width",
    "public relations are hard;",
    "Ingredients (serves 4):",
    "- salt; pepper; sugar;",
    "SELECT THE BEST ANSWER",
    "UPDATE THE LIST",
    "return to sender",
    "Note: the sky is blue; the grass is green.",
    "f(x) and g(x) are functions",
    "# A heading",
    "   An indented line of a poem,",
  ])("leaves %s alone", (line) => {
    expect(codeOf(line)).toEqual([]);
    expect(codeOf(`Some words before it.\n${line}\nSome words after it.`)).toEqual([]);
  });

  it("takes no line of the bundled sample's prose for code", async () => {
    for (const language of ["bg", "cs", "de", "en", "es", "fi", "fr", "ru", "zh"]) {
      const { records } = await readAlpaca(join(sampleDir, `alpaca.${language}.json`));
      const found = records.flatMap(({ instruction, input, output }) => [instruction, input, output].flatMap(codeOf));
      for (const code of found) expect(code).toMatch(/[=(){}<>;]/);
    }
  });
});
