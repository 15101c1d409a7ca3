/**
 * Writes TensorBoard event files: TFRecord framing around Event protobufs with one or more `simple_value`s.
 *   record  length u64 | masked CRC32C(length) u32 | payload | masked CRC32C(payload) u32, little-endian
 *   Event   1: wall_time double, 2: step int64, 3: file_version string, 5: summary
 *   Summary 1: repeated Value { 1: tag string, 2: simple_value float }
 * Sources: tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto, tsl/lib/io/record_writer.h.
 */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli), reflected polynomial 0x82f63b78. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** TFRecord's masking, so that a CRC over data that holds CRCs stays useful: rotate right by 15, add a constant. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

export interface ScalarEvent {
  /** Seconds since 1970. */
  readonly wallTime: number;
  readonly step: number;
  readonly scalars: Readonly<Record<string, number>>;
}

/** The record every event file starts with. */
export function fileVersionRecord(wallTime: number): Uint8Array {
  return frame(Buffer.concat([doubleField(1, wallTime), bytesField(3, Buffer.from("brain.Event:2"))]));
}

export function scalarRecord({ wallTime, step, scalars }: ScalarEvent): Uint8Array {
  const values = Object.entries(scalars).map(([tag, value]) =>
    bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), floatField(2, value)])),
  );
  return frame(Buffer.concat([doubleField(1, wallTime), varintField(2, step), bytesField(5, Buffer.concat(values))]));
}

/**
 * The events of a file from `offset` on, each with where its record ends. Stops at the first record that is cut off or whose
 * checksum is wrong: what a killed writer leaves behind.
 */
export function* readScalarEvents(file: Uint8Array): Generator<ScalarEvent & { readonly end: number }> {
  const view = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  let offset = 0;
  while (offset + 12 <= view.length) {
    const length = Number(view.readBigUInt64LE(offset));
    const end = offset + 12 + length + 4;
    if (view.readUInt32LE(offset + 8) !== maskedCrc32c(view.subarray(offset, offset + 8)) || end > view.length) return;
    const payload = view.subarray(offset + 12, end - 4);
    if (view.readUInt32LE(end - 4) !== maskedCrc32c(payload)) return;
    yield { ...decodeEvent(payload), end };
    offset = end;
  }
}

function frame(payload: Uint8Array): Uint8Array {
  const record = Buffer.alloc(12 + payload.length + 4);
  record.writeBigUInt64LE(BigInt(payload.length), 0);
  record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8);
  record.set(payload, 12);
  record.writeUInt32LE(maskedCrc32c(payload), 12 + payload.length);
  return record;
}

// Protobuf wire types: 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes. The key of a field is number * 8 + wire type.

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value; // arithmetic, not shifts: steps may pass 2^31
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

function varintField(field: number, value: number): Uint8Array {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

function bytesField(field: number, value: Uint8Array): Uint8Array {
  return Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);
}

function doubleField(field: number, value: number): Uint8Array {
  const bytes = Buffer.alloc(9);
  bytes[0] = field * 8 + 1;
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

function floatField(field: number, value: number): Uint8Array {
  const bytes = Buffer.alloc(5);
  bytes[0] = field * 8 + 5;
  bytes.writeFloatLE(value, 1);
  return bytes;
}

type Field = { readonly field: number; readonly value: number | Buffer };

function* fieldsOf(message: Buffer): Generator<Field> {
  let offset = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[offset++] ?? 0;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (offset < message.length) {
    const key = readVarint();
    const field = key >>> 3;
    const wireType = key & 7;
    const size = wireType === 0 ? 0 : wireType === 1 ? 8 : wireType === 5 ? 4 : readVarint();
    const bytes = message.subarray(offset, offset + size);
    offset += size;
    if (wireType === 0) yield { field, value: readVarint() };
    else if (wireType === 1) yield { field, value: bytes.readDoubleLE() };
    else if (wireType === 5) yield { field, value: bytes.readFloatLE() };
    else yield { field, value: bytes };
  }
}

function decodeEvent(payload: Buffer): ScalarEvent {
  let wallTime = 0;
  let step = 0;
  const scalars: Record<string, number> = {};
  for (const { field, value } of fieldsOf(payload)) {
    if (field === 1 && typeof value === "number") wallTime = value;
    if (field === 2 && typeof value === "number") step = value;
    if (field !== 5 || typeof value === "number") continue;
    for (const summaryField of fieldsOf(value)) {
      if (summaryField.field !== 1 || typeof summaryField.value === "number") continue;
      const parts = new Map([...fieldsOf(summaryField.value)].map((part) => [part.field, part.value]));
      scalars[String(parts.get(1))] = Number(parts.get(2));
    }
  }
  return { wallTime, step, scalars };
}
