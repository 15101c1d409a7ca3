/** The sizes of a model, as the commands that make one take them. */
import type { Command } from "commander";
import { numberFlag } from "./output.js";

/** Adds the flags of `ShapeFlags`; `vocabulary` describes --vocab, whose default is the command's. */
export function addShapeFlags(command: Command, vocabulary: string): Command {
  const size = (name: string, description: string): Command =>
    command.option(`--${name} <N>`, description, numberFlag(`--${name}`, { integer: true, min: 1 }));
  size("hidden", "hidden size");
  size("layers", "blocks");
  size("heads", "attention heads");
  size("kv-heads", "key/value heads (llama)");
  size("intermediate", "width of the MLP");
  return size("vocab", vocabulary);
}
