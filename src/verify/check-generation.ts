/** Greedy and beam search, token by token. */
import type { Generated, GenerateOptions, NativeModel } from "../native/addon-types.js";
import type { ReferenceGeneration } from "./case-files.js";
import type { Expectations } from "./check-outputs.js";
import { firstDifference } from "./compare.js";

export async function checkGeneration(
  model: NativeModel,
  cases: readonly ReferenceGeneration[],
  expectations: Expectations,
): Promise<void> {
  for (const [index, reference] of cases.entries()) {
    const suppressed = reference.eos_suppressed ? ", eos suppressed" : "";
    const label = `generation ${index} (${reference.kind}${suppressed})`;
    const [generated] = await model.generate([Int32Array.from(reference.prompt)], optionsOf(reference), null);
    if (generated) checkGenerated(generated, reference, label, expectations);
    else expectations.findings.fail(`${label}: nothing was generated`);
  }
}

function optionsOf(reference: ReferenceGeneration): GenerateOptions {
  return {
    maxNewTokens: reference.max_new_tokens,
    numBeams: reference.num_beams,
    noRepeatNgramSize: reference.no_repeat_ngram_size,
    repetitionPenalty: reference.repetition_penalty ?? 1,
    lengthPenalty: 1,
    temperature: 0,
    topK: 0,
    topP: 1,
    seed: 0,
    eosTokenId: reference.eos_token_id,
    minNewTokens: reference.eos_suppressed ? reference.max_new_tokens : 0,
  };
}

function checkGenerated(
  { tokens, beams = [] }: Generated,
  reference: ReferenceGeneration,
  label: string,
  { limits, findings }: Expectations,
): void {
  const difference = describeDifference(tokens, reference.new_tokens);
  if (limits.beamScore === null) {
    // bf16 may choose otherwise between tokens of nearly equal score, and all that follows is different then.
    if (difference) findings.note(`${label}: ${difference}`);
    return;
  }
  if (difference) findings.fail(`${label}: ${difference}`);
  if (!reference.beams) return;
  // Beams after the best were not all stable under noise on the logits.
  const compared = reference.all_beams_stable_under_noise ? reference.beams.length : 1;
  for (const [rank, expected] of reference.beams.slice(0, compared).entries()) {
    const beam = beams[rank];
    if (!beam) findings.fail(`${label}, beam ${rank}: missing`);
    else {
      const beamDifference = describeDifference(beam.tokens, expected.new_tokens);
      if (beamDifference) findings.fail(`${label}, beam ${rank}: ${beamDifference}`);
      findings.within(`${label}, beam ${rank}: absolute error of the score`, Math.abs(beam.score - expected.score), limits.beamScore);
    }
  }
}

function describeDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): string | null {
  const at = firstDifference(actual, expected);
  return at < 0 ? null : `tokens differ from position ${at} on: ${actual[at] ?? "the end"} instead of ${expected[at] ?? "the end"}`;
}
