import { open } from "node:fs/promises";

/** A complete model of one language whose matrix of zeros is a hole in the file: it takes no space on the disk. */
export async function sparseModel(file: string, bytes: number): Promise<string> {
  const dimension = 256;
  const rows = Math.ceil(bytes / dimension / 4);
  const label = Buffer.concat([Buffer.from("__label__eng_Latn\0"), int64(1), Buffer.from([1])]);
  const head = Buffer.concat([
    int32(793_712_314, 12),
    int32(dimension, 5, 5, 1, 5, 1, 3, 3, rows, 2, 5, 100), // settings: loss softmax, model supervised, a bucket for each row
    ...[Buffer.from(Float64Array.of(1e-4).buffer), int32(1, 0, 1), int64(1, -1), label],
    ...[Buffer.from([0]), int64(rows, dimension)],
  ]);
  const tail = Buffer.concat([Buffer.from([0]), int64(1, dimension), Buffer.alloc(dimension * 4)]);
  const handle = await open(file, "w");
  await handle.write(head);
  await handle.write(tail, 0, tail.length, head.length + rows * dimension * 4);
  await handle.close();
  return file;
}

const int32 = (...values: readonly number[]): Buffer => Buffer.from(Int32Array.from(values).buffer);
const int64 = (...values: readonly number[]): Buffer => Buffer.from(BigInt64Array.from(values, BigInt).buffer);
