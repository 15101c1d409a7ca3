/** A tensor as a checkpoint file describes it, before it is known to be one that the model reads. */
import { open } from "node:fs/promises";
import { PolypacaError } from "../errors.js";
import { elementCount } from "../families/parameters.js";
import type { NamedTensor, StateDType, StoredDType, TensorSource } from "../native/addon-types.js";

/** Like TensorSource, of any element type: checkpoints carry integer and boolean buffers that nobody reads. */
export interface StoredTensor extends Omit<TensorSource, "dtype"> {
  readonly dtype: string;
}

/** Bytes of one element, by safetensors' names. */
export const elementBytes: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};

export const storedDTypes: readonly StoredDType[] = ["F32", "BF16", "F16"];

/** @throws PolypacaError `BAD_CHECKPOINT` where the elements are of a type that weights are not read from */
export function asTensorSource(tensor: StoredTensor): TensorSource {
  const dtype = storedDTypes.find((name) => name === tensor.dtype);
  if (dtype) return { ...tensor, dtype };
  throw new PolypacaError(
    "BAD_CHECKPOINT",
    `${tensor.file}: "${tensor.name}" has elements of type ${tensor.dtype}; weights are read from ${storedDTypes.join(", ")}.`,
  );
}

/** For optimiser state, which may hold 8-bit codes too. */
export function asStateSource(tensor: StoredTensor): TensorSource {
  return tensor.dtype === "U8" ? { ...tensor, dtype: "U8" } : asTensorSource(tensor);
}

/** Row-major strides in elements. */
export function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis]!;
  }
  return strides;
}

/** Index, from the tensor's element 0, of the last element it reaches; -1 for an empty tensor. */
export function lastElement(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return -1;
  return shape.reduce((index, size, axis) => index + (size - 1) * strides[axis]!, 0);
}

/** Reads one tensor into memory as fp32, row-major. For small tensors: weights go to native code by their place in the file. */
export async function readTensor(source: TensorSource): Promise<NamedTensor> {
  const strides = source.strides ?? denseStrides(source.shape);
  const bytes = (lastElement(source.shape, strides) + 1) * elementBytes[source.dtype]!;
  const raw = await readBytes(source, bytes);
  const element = elementReader(raw, source.dtype);
  const data = new Float32Array(elementCount(source.shape));
  const index = new Array<number>(source.shape.length).fill(0);
  for (let i = 0, at = 0; i < data.length; i++) {
    data[i] = element(at);
    for (let axis = index.length - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++index[axis]! < source.shape[axis]!) break;
      at -= strides[axis]! * source.shape[axis]!;
      index[axis] = 0;
    }
  }
  return { name: source.name, shape: source.shape, data };
}

async function readBytes({ file, name, offset }: TensorSource, bytes: number): Promise<DataView> {
  const handle = await open(file, "r");
  try {
    const buffer = new Uint8Array(bytes);
    const { bytesRead } = await handle.read(buffer, 0, bytes, offset);
    if (bytesRead < bytes)
      throw new PolypacaError("BAD_CHECKPOINT", `${file}: "${name}" ends after ${bytesRead} of ${bytes} bytes: the file is truncated.`);
    return new DataView(buffer.buffer);
  } finally {
    await handle.close();
  }
}

function elementReader(raw: DataView, dtype: StateDType): (index: number) => number {
  if (dtype === "F32") return (index) => raw.getFloat32(4 * index, true);
  if (dtype === "U8") return (index) => raw.getUint8(index);
  if (dtype === "F16") return (index) => halfToNumber(raw.getUint16(2 * index, true));
  const word = new DataView(new ArrayBuffer(4)); // bf16 is the upper half of a float
  return (index) => {
    word.setUint16(0, raw.getUint16(2 * index, true));
    return word.getFloat32(0);
  };
}

/** The value of an IEEE 754 half: 1 sign bit, 5 of exponent, 10 of fraction. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
