import type { DecoderSpec } from "../families/decoder-spec.js";
import type { Skip } from "./compare.js";

/**
 * Elements of a parameter whose gradient is zero by mathematics. A constant added to every key changes no softmax, so the key's
 * part of a fused query/key/value bias has none: all of it under ALiBi, the dimensions that RoPE does not turn otherwise. What is
 * computed there is rounding noise, which Adam's normalisation turns into steps of visible size.
 *
 * @param name a parameter's checkpoint name
 */
export function hasZeroGradient(spec: DecoderSpec, name: string): Skip {
  const isFusedBias = spec.names.qkv.length === 1 && new RegExp(`^${pattern(spec.names.qkv[0]!)}\\.bias$`).test(name);
  if (!isFusedBias) return () => false;
  const { headDim, heads, positions, qkvLayout } = spec;
  const turned = positions.kind === "rope" ? positions.rotaryDim : 0;
  return (row) => {
    // Interleaved rows are [head][q, k, v][headDim], concatenated ones [q, k, v][head][headDim].
    const part = qkvLayout === "interleaved" ? Math.floor(row / headDim) % 3 : Math.floor(row / (heads * headDim));
    return part === 1 && row % headDim >= turned;
  };
}

function pattern(name: string): string {
  return name.replaceAll(".", "\\.").replace("{layer}", "\\d+");
}
