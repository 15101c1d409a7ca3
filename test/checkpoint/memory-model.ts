/** A stand-in for the native model that keeps tensors in memory and writes them as native code does: header, then dense values. */
import { writeFileSync } from "node:fs";
import { readTensor } from "../../src/checkpoint/stored-tensor.js";
import type { NamedTensor, NativeModel, TensorFileLayout, TensorSource } from "../../src/native/addon-types.js";

export async function memoryModel(sources: {
  readonly weights?: readonly TensorSource[];
  readonly adapter?: readonly TensorSource[];
}): Promise<Pick<NativeModel, "tensors" | "write">> {
  const values = new Map<string, NamedTensor>();
  for (const source of [...(sources.weights ?? []), ...(sources.adapter ?? [])]) values.set(source.name, await readTensor(source));
  return {
    tensors: (kind) => (sources[kind] ?? []).map(({ name, shape }) => ({ name, shape, dtype: "F32" })),
    write: async ({ path, header, tensors }: TensorFileLayout) => {
      writeFileSync(path, Buffer.concat([header, ...tensors.map(({ name, dtype }) => bytesOf(values.get(name)!.data, dtype))]));
    },
  };
}

function bytesOf(data: Float32Array, dtype: string): Buffer {
  if (dtype === "F32") return Buffer.from(data.buffer);
  if (dtype !== "BF16") throw new Error(`memoryModel does not write ${dtype}`);
  // Cut instead of rounded: the tests look at names, shapes and places.
  const words = new Uint32Array(data.buffer);
  return Buffer.from(Uint16Array.from(words, (word) => word >>> 16).buffer);
}
