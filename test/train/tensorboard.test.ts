import { describe, expect, it } from "vitest";
import { crc32c, fileVersionRecord, maskedCrc32c, readScalarEvents, scalarRecord } from "../../src/train/tensorboard.js";

// RFC 3720, appendix B.4.
const known: [string, Uint8Array, number][] = [
  ["32 bytes of zeroes", new Uint8Array(32), 0x8a9136aa],
  ["32 bytes of ones", new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ["32 bytes counting up", Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ["32 bytes counting down", Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
];

describe("crc32c", () => {
  it.each(known)("of %s is the RFC's", (_, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  it("is masked as TFRecord masks it", () => {
    // crc32c("123456789") = 0xe3069283; rotated right by 15 and shifted by 0xa282ead8.
    expect(maskedCrc32c(Buffer.from("123456789"))).toBe((((0xe3069283 >>> 15) | (0xe3069283 << 17)) + 0xa282ead8) >>> 0);
  });
});

describe("event records", () => {
  it("starts a file with the bytes TensorFlow writes for brain.Event:2", () => {
    const record = Buffer.from(fileVersionRecord(1));
    // length 24; wall_time 1.0 is field 1, fixed64; file_version is field 3, length-delimited.
    expect(record.readBigUInt64LE(0)).toBe(24n);
    expect(record.subarray(12, 36).toString("hex")).toBe(`09000000000000f03f1a0d${Buffer.from("brain.Event:2").toString("hex")}`);
    // The masked checksum of a length of 24, as every TensorFlow event file starts.
    expect(record.subarray(0, 12).toString("hex")).toBe("1800000000000000a37f4b22");
  });

  it("encodes tag and value as Summary.Value", () => {
    const payload = Buffer.from(scalarRecord({ wallTime: 0, step: 300, scalars: { a: 1.5 } })).subarray(12, -4);
    //                      wall_time           step 300 | summary{ value{ tag "a", simple_value 1.5 } }
    expect(payload.toString("hex")).toBe("090000000000000000" + "10ac02" + "2a0a" + "0a08" + "0a0161" + "150000c03f");
  });

  it("are read back with step, time and values", () => {
    const events = [
      { wallTime: 1.7e9, step: 0, scalars: { "eval/loss": 2.5 } },
      { wallTime: 1.7e9 + 1, step: 2 ** 33, scalars: { "train/loss": 0.5, "train/grad_norm": 4 } },
    ];
    const file = Buffer.concat([fileVersionRecord(1.7e9), ...events.map(scalarRecord)]);
    const read = [...readScalarEvents(file)];
    expect(read.slice(1).map(({ end: _, ...event }) => event)).toEqual(events);
    expect(read.at(-1)?.end).toBe(file.length);
  });

  it("ends reading at a record that is cut off or damaged", () => {
    const record = scalarRecord({ wallTime: 1, step: 1, scalars: { a: 1 } });
    const file = Buffer.concat([record, record]);
    expect([...readScalarEvents(file.subarray(0, -1))]).toHaveLength(1);
    file[record.length + 20]! ^= 1;
    expect([...readScalarEvents(file)]).toHaveLength(1);
  });
});
