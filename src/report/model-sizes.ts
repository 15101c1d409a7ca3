/** Family and size of models by their published names; "560M" and "7.1B" read and written. */

export interface ModelFacts {
  readonly family: string;
  /** As published, not counted: "7B" is 7e9. */
  readonly parameters: number;
}

/** The study's models, by the names of their folders on a hub and of `init-model --preset`. The first group is the size. */
const knownFamilies: readonly { readonly family: string; readonly name: RegExp }[] = [
  { family: "BLOOM", name: /^bloom-(\d+[mb]\d?)$/ },
  { family: "Pythia", name: /^pythia-(\d+(?:\.\d+)?[mb])(?:-deduped)?$/ },
  { family: "LLaMA", name: /^llama-(\d+b)(?:-hf)?$/ },
  { family: "OpenLLaMA", name: /^open[-_]llama[-_](\d+b)$/ },
  { family: "Baichuan-2", name: /^baichuan-?2-(\d+b)(?:-base)?$/ },
];

/** Of a model of the study; null for others, whose names may mean anything. */
export function factsByName(model: string): ModelFacts | null {
  const name = model.toLowerCase();
  for (const { family, name: pattern } of knownFamilies) {
    const size = pattern.exec(name)?.[1];
    if (size !== undefined) return { family, parameters: parseParameters(size)! };
  }
  return null;
}

const units: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, b: 1e9 };

/** Reads 560M, 1.1B, BLOOM's 1b1, or a plain number; null for anything else. */
export function parseParameters(text: string): number | null {
  const [, whole, unit, tenths] = /^(\d+(?:\.\d+)?)([kmb]?)(\d?)$/.exec(text.trim().toLowerCase()) ?? [];
  if (whole === undefined) return null;
  if (tenths && (!unit || whole.includes("."))) return null;
  const value = Math.round(Number(tenths ? `${whole}.${tenths}` : whole) * (unit ? units[unit]! : 1));
  return Number.isSafeInteger(value) && value > 0 ? value : null;
}

/** 560M, 7.1B, 12B: two digits, three where the first two do not say it. */
export function formatParameters(parameters: number): string {
  const [unit, scale] = parameters >= 1e9 ? ["B", 1e9] : parameters >= 1e6 ? ["M", 1e6] : parameters >= 1e3 ? ["K", 1e3] : ["", 1];
  return `${Number((parameters / (scale as number)).toPrecision(3))}${unit}`;
}
