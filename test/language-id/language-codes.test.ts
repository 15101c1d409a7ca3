import { describe, expect, it } from "vitest";
import { codeOfLabel, comparableCode, languageName, parseLanguageCode, studyLanguages } from "../../src/language-id/index.js";

describe("parseLanguageCode", () => {
  it("takes the study's codes and any other language's", () => {
    for (const code of [...studyLanguages, "sw", "nb", "nn", "yue", "ceb", "azb", "sh"]) expect(parseLanguageCode(code, "--to")).toBe(code);
  });

  it.each([
    ["deu", /^--to: "deu" is no language code\. Did you mean "de" \(German\)\?/],
    ["ger", /"de" \(German\)/],
    ["German", /"de" \(German\)/],
    ["english", /"en" \(English\)/],
    ["norwegian", /"no" \(Norwegian\)/],
    ["Frnech", /"fr" \(French\)/],
    ["Spansh", /"es" \(Spanish\)/],
    ["pt-BR", /"pt" \(Portuguese\)/],
    ["zh_Hans", /"zh" \(Chinese\)/],
    ["DE", /"de" \(German\)/],
    ["xx", /Known are ISO 639 codes, such as bg, cs, zh/],
    ["", /Known are ISO 639 codes/],
    ["../de", /Known are ISO 639 codes/],
  ])("refuses %s", (text, message) => {
    expect(() => parseLanguageCode(text, "--to")).toThrowError(
      expect.objectContaining({ code: "USAGE", message: expect.stringMatching(message) }),
    );
  });
});

describe("language names", () => {
  it("are English", () => {
    expect(studyLanguages.map(languageName)).toEqual([
      "Bulgarian",
      "Czech",
      "Chinese",
      "German",
      "Finnish",
      "French",
      "Russian",
      "Spanish",
      "English",
      "Bangla",
      "Hindi",
      "Norwegian",
    ]);
    expect(languageName("azb")).toBe("South Azerbaijani");
  });

  it("are there for no other text", () => {
    for (const text of ["xx", "", "root", "en-GB", "EN", "e"]) expect(languageName(text)).toBeNull();
  });
});

describe("comparable codes", () => {
  it.each([
    ["nb", "no"],
    ["nn", "no"],
    ["no", "no"],
    ["zh-TW", "zh"],
    ["yue", "zh"],
    ["cmn", "zh"],
    ["de-AT", "de"],
    ["deu", "de"],
    ["und", "und"],
    ["not a code", "not a code"],
  ])("of %s is %s", (code, comparable) => {
    expect(comparableCode(code)).toBe(comparable);
  });

  it.each([
    ["__label__no", "no"],
    ["__label__nn", "no"],
    ["__label__nob_Latn", "no"],
    ["__label__zho_Hans", "zh"],
    ["__label__zho_Hant", "zh"],
    ["__label__yue_Hant", "zh"],
    ["__label__wuu", "zh"],
    ["__label__fin_Latn", "fi"],
    ["__label__ces_Latn", "cs"],
    ["__label__ben_Beng", "bn"],
    ["__label__arb_Arab", "ar"],
    ["__label__swh_Latn", "sw"],
    ["__label__als", "gsw"], // lid.176: the Alemannic Wikipedia
    ["__label__als_Latn", "sq"], // OpenLID: Tosk Albanian
    ["__label__sh", "sh"],
    // OpenLID's and NLLB's labels, where ISO 639-3 has a member of a language with a two-letter code
    ...[
      ["azj_Latn", "az"],
      ["ayr_Latn", "ay"],
      ["est_Latn", "et"],
      ["fuv_Latn", "ff"],
      ["gaz_Latn", "om"],
      ["khk_Cyrl", "mn"],
    ],
    ...[
      ["kmr_Latn", "ku"],
      ["knc_Arab", "kr"],
      ["lvs_Latn", "lv"],
      ["npi_Deva", "ne"],
      ["ory_Orya", "or"],
      ["pbt_Arab", "ps"],
    ],
    ...[
      ["pes_Arab", "fa"],
      ["plt_Latn", "mg"],
      ["quy_Latn", "qu"],
      ["uzn_Latn", "uz"],
      ["ydd_Hebr", "yi"],
      ["zsm_Latn", "ms"],
    ],
    ...[
      ["nno_Latn", "no"],
      ["hin_Deva", "hi"],
      ["bul_Cyrl", "bg"],
      ["spa_Latn", "es"],
      ["rus_Cyrl", "ru"],
      ["eng_Latn", "en"],
    ],
    // GlotLID's
    ...[
      ["cmn_Hani", "zh"],
      ["ekk_Latn", "et"],
      ["cjy_Hani", "zh"],
      ["nor_Latn", "no"],
      ["und_Arab", "und"],
      ["zxx_Zxxx", "zxx"],
    ],
  ])("of the label %s is %s", (label, code) => {
    expect(codeOfLabel(label)).toBe(code);
  });
});
